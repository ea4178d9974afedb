# Writes until it is stopped, in the workspace and in what it has for temporary files.
dd if=/dev/zero of="$TMPDIR/fill" bs=1M count=2000 2>/dev/null
i=0; while [ $i -lt 200 ]; do head -c 1000000 /dev/zero > fill-$i || exit 1; i=$((i+1)); done
got "200 MB in the workspace"
