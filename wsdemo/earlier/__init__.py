"""Modules by the names that they had before the rooms of ``domains``, for scripts that use these.

``from wsdemo.shape_fitting import load_mesh`` still works: the package looks here as well
(``wsdemo/__init__.py``). Nothing within wsdemo imports them.
"""
