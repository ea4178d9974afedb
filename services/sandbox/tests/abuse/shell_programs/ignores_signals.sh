# Does not listen.
trap '' TERM HUP INT QUIT XCPU ALRM
while :; do sleep 300; done
