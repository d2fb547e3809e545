"""Files of former versions of this software, and what becomes of them in this one."""
