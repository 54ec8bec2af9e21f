"""The ``ageinfer`` command line; the library below it knows no argument parser."""
