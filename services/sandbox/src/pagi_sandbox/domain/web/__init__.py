"""How tools fetch from the web: every address is checked after DNS, and exactly the checked one is connected to."""
