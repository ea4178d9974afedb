# Leaves processes behind in every way that a shell has.
trap '' TERM HUP INT
nohup sh -c 'while :; do echo x >> beat; sleep 0.05; done' >/dev/null 2>&1 &
setsid sh -c 'trap "" TERM HUP; while :; do echo x >> beat; sleep 0.05; done' >/dev/null 2>&1 &
(sh -c 'exec sleep 300' &) &
sleep 0.2
ok "begun"
