"""The console: a web page that a daemon serves to its own operator, on loopback. See docs/console.md."""
