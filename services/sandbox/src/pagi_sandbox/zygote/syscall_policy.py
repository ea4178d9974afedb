"""Which system calls a tool may make.

Everything that is not named answers ENOSYS, so that a new kernel brings no new surface and libraries fall back: clone3
(its flags lie in memory, where a filter cannot look), openat2, io_uring, memfd_create (memory that no address-space
limit counts) and numbers that did not exist when this was written.

What Landlock (ABI 7) cannot stop is stopped here: sockets of every kind, chmod, chown, times and extended attributes of
files outside, inotify, System V objects, limits and scheduling of other processes.
"""

from __future__ import annotations

ALLOWED = """
read write open close stat fstat lstat poll lseek mmap mprotect munmap brk rt_sigaction rt_sigprocmask rt_sigreturn
pread64 pwrite64 readv writev access pipe select sched_yield mremap msync mincore madvise dup dup2 pause nanosleep
getitimer alarm setitimer getpid sendfile sendmsg recvmsg sendto recvfrom sendmmsg recvmmsg shutdown getsockname
getpeername setsockopt getsockopt fork vfork execve execveat exit wait4 kill uname flock fsync fdatasync
truncate ftruncate getdents getcwd chdir fchdir rename mkdir rmdir creat link unlink symlink readlink umask
gettimeofday getrlimit getrusage sysinfo times getuid getgid geteuid getegid setpgid getppid getpgrp setsid setuid
setgid setreuid setregid setresuid setresgid setfsuid setfsgid setgroups getgroups getresuid getresgid getpgid getsid
capget capset rt_sigpending rt_sigtimedwait rt_sigqueueinfo rt_sigsuspend sigaltstack statfs fstatfs getpriority
sched_get_priority_max sched_get_priority_min sched_rr_get_interval mlock munlock mlock2 munlockall arch_prctl
setrlimit sync_file_range gettid readahead getxattr lgetxattr fgetxattr listxattr llistxattr flistxattr tkill time
futex futex_waitv get_thread_area getdents64 set_tid_address restart_syscall fadvise64 timer_create
timer_settime timer_gettime timer_getoverrun timer_delete clock_gettime clock_getres clock_nanosleep exit_group
epoll_create epoll_wait epoll_ctl epoll_pwait epoll_pwait2 epoll_create1 tgkill waitid openat mkdirat newfstatat
unlinkat renameat renameat2 linkat symlinkat readlinkat faccessat faccessat2 pselect6 ppoll set_robust_list
get_robust_list splice tee vmsplice signalfd signalfd4 timerfd_create timerfd_settime timerfd_gettime eventfd
eventfd2 fallocate dup3 pipe2 preadv pwritev preadv2 pwritev2 rt_tgsigqueueinfo getcpu getrandom membarrier
copy_file_range pkey_mprotect pkey_alloc pkey_free statx rseq pidfd_send_signal pidfd_open close_range mknod mknodat
"""
# Allowed, with looks at the arguments: see seccomp.py.
CHECKED = """
clone socketpair ioctl fcntl prctl prlimit64 personality setpriority sched_getaffinity sched_setaffinity sched_getparam
sched_setparam sched_getscheduler sched_setscheduler sched_getattr sched_setattr ioprio_get ioprio_set
"""
# They reach files outside the workspace where the tool has the service's own user: then they do nothing and say 0,
# because tar, cp -p and shutil.copy would fail for nothing.
MODES = "chmod fchmod fchmodat utime utimes futimesat utimensat"
# For a tool with the permission "network" only.
NETWORK = "socket connect"
# EPERM: ordinary programs ask, and go on without.
DENIED = """
chown fchown lchown fchownat setxattr lsetxattr fsetxattr removexattr lremovexattr fremovexattr
inotify_init inotify_init1 inotify_add_watch fanotify_init fanotify_mark bind listen accept accept4
shmget shmat shmctl shmdt semget semop semctl semtimedop msgget msgsnd msgrcv msgctl mq_open mq_unlink
unshare chroot sethostname setdomainname settimeofday clock_settime adjtimex clock_adjtime syslog vhangup quotactl
quotactl_fd perf_event_open kcmp pidfd_getfd process_madvise process_mrelease name_to_handle_at lookup_dcookie
migrate_pages move_pages mbind set_mempolicy mlockall sync syncfs seccomp modify_ldt remap_file_pages
"""
# No ordinary program makes these: who does is ended with SIGSYS.
KILLED = """
ptrace process_vm_readv process_vm_writev bpf userfaultfd kexec_load kexec_file_load init_module finit_module
delete_module create_module mount umount2 pivot_root move_mount open_tree fsopen fsconfig fsmount fspick mount_setattr
setns open_by_handle_at add_key request_key keyctl reboot swapon swapoff iopl ioperm acct
"""
