"""The processes of a running archive: a supervisor, N workers and one index writer.

The supervisor binds the ports and owns the run folder; workers take connections from the shared sockets; the index
writer follows the packs. Supervisor and child are joined by one socket pair: the child reads its settings from it, says
on it when it is ready, and ends when it closes. So whatever happens to the supervisor, no child outlives it and keeps a
port.
"""
