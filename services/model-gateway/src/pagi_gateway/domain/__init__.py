"""What the gateway knows: conversations, tools, answers, and who can be asked for one."""
