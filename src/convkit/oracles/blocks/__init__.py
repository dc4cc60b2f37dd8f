"""Building blocks of forward passes, in plain torch. Models are composed of them; none knows a layout."""
