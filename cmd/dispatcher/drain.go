// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"syscall"
)

// drain is the subcommand that a pod's preStop runs. It asks the dispatcher, which is process 1 of its container, to hand
// over what waits, and returns at once: the kubelet sends SIGTERM no sooner than the app has ended.
func drain(pid int, stderr io.Writer) int {
	if err := syscall.Kill(pid, syscall.SIGUSR1); err != nil {
		fmt.Fprintf(stderr, "dispatcher drain: signal process %d: %v\n", pid, err)
		return 1
	}
	return 0
}
