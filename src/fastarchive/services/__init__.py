"""What the archive does with the messages of an association: one module for each DIMSE service class.

:func:`fastarchive.services.dispatch.handle_association` is the way in, :mod:`fastarchive.services.policy` says which
associations are accepted, and :mod:`fastarchive.services.context` holds what all services share.
"""
