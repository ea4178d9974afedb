# Changes what lies outside.
try "append" sh -c 'echo x >> "$0"' "$writable"
try "a new file" sh -c 'echo x > "$0/new"' "$outside"
try "mkdir" mkdir "$outside/new"
try "rm" rm "$writable"
try "mv" mv "$writable" moved
try "hard link" ln "$writable" hard
try "cron" sh -c 'echo "* * * * * root id" > /etc/cron.d/abuse'
try "usr" sh -c 'echo x > /usr/bin/abuse'
# These say that all went well where they do nothing; what they did is seen from outside.
chmod 777 "$secret"; chown 0 "$secret"; touch "$writable" 2>/dev/null; truncate -s 0 "$writable" 2>/dev/null; true
