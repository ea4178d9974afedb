# What a shell is for.
set -e
printf 'b\na\n' | sort > sorted
[ "$(head -1 sorted)" = a ]
mkdir -p deep/er && cp sorted deep/er/ && mv deep/er/sorted deep/there && [ "$(wc -l < deep/there)" -eq 2 ]
tmp=$(mktemp) && echo x > "$tmp" && rm "$tmp"
seq 1 1000 | awk '{ s += $1 } END { exit s != 500500 }'
(cd deep && [ -f there ])
find . -name there | grep -q there
echo "$(date +%Y)" | grep -q 20
yes | head -3 > few && [ "$(wc -l < few)" -eq 3 ]
sleep 0.05 & wait
ok "ordinary"
