"""transformers' config classes as tables, a file a kind of family.

Facts: transformers 5.23, ``configuration_utils.py`` and ``models/*/configuration_*.py``; 4.57 for the fields that
transformers 5 doesn't write any more. ``tests/mappings/test_classes.py`` compares fields, defaults and
``attribute_map`` with the classes of the transformers that is installed.
"""
