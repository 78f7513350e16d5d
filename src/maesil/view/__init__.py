"""The command `view`: a page in the browser, served to this machine alone, that shows volumes with NiiVue."""
