"""The structure of Pax train states."""
