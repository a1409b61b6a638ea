"""Things with ``fit`` and ``sample``, and what is known of them."""
