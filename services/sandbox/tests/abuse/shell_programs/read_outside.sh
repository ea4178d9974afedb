# Reads what lies outside, with the programs that a shell has for it.
try "cat" cat "$secret"
try "dd" dd if="$secret" of=copy
try "cp" cp "$secret" copy
try "tar" sh -c 'tar cf - "$0" | grep -q .' "$secret"
try "by a link" sh -c 'ln -sf "$0" link && cat link' "$secret"
try "grep -r" grep -r PAGI-CANARY "$outside" "$workspaces"
try "find" sh -c 'find "$0" -type f | grep -q .' "$outside"
try "/etc/shadow" cat /etc/shadow
try "the database" cat "$database"
cat "$secret" "$database" 2>/dev/null; true
