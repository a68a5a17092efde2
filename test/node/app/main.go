//go:build node

// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// app is what runs in the pods of the tests on a node: a producer that posts events to its sidecar, a receiver, and a
// look around from inside of a container.
package main

import (
	"fmt"
	"os"
)

func main() {
	commands := map[string]func([]string) error{"produce": produce, "receive": receive, "look": look}
	if len(os.Args) < 2 || commands[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "usage: app produce|receive|look")
		os.Exit(2)
	}
	if err := commands[os.Args[1]](os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, "app:", err)
		os.Exit(1)
	}
}
