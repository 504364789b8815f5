"""Every system call, every failure: programs run with one of their calls failing, and must keep every promise. README.md says how."""
