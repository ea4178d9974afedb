# bash makes sockets of its own; others have programs.
try "bash tcp" bash -c "echo $name > /dev/tcp/127.0.0.1/$tcp"
try "bash udp" bash -c "echo $name > /dev/udp/127.0.0.1/$udp"
for client in curl wget nc python3 perl; do
  command -v $client >/dev/null || continue
  case $client in
    curl) try curl curl -sm 2 "http://127.0.0.1:$tcp/$name" ;;
    wget) try wget wget -qt 1 -T 2 -O - "http://127.0.0.1:$tcp/$name" ;;
    nc) try nc sh -c "echo $name | nc -w 1 127.0.0.1 $tcp" ;;
    python3) try python3 python3 -c "import socket; socket.create_connection(('127.0.0.1', $tcp), 2).send(b'$name')" ;;
    perl) try perl perl -MIO::Socket::INET -e "IO::Socket::INET->new('127.0.0.1:$tcp') or die" ;;
  esac
done
