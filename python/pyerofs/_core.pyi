"""Types of the compiled module. Names are bytes here; the package above decodes them."""

__version__: str
