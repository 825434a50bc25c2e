"""Reports of a training as HTML pages, and a page that follows one."""
