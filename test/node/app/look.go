//go:build node

// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// look prints what the container can see of the dispatcher's: files, processes, environment. No line means nothing.
func look([]string) error {
	for _, folder := range []string{"/var/run/webhooks", "/var/lib/webhooks"} {
		if _, err := os.Stat(folder); err == nil {
			fmt.Println("folder", folder)
		}
	}
	processes, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return err
	}
	for _, p := range processes {
		if line, err := os.ReadFile(p); err == nil && strings.Contains(string(line), "dispatcher") {
			fmt.Println("process", p)
		}
	}
	return filepath.WalkDir("/", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			if path == "/proc" || path == "/sys" {
				return fs.SkipDir
			}
			return nil
		}
		if content, err := os.ReadFile(path); err == nil && strings.Contains(string(content[:min(len(content), 1<<16)]), "whsec_") {
			fmt.Println("signing key in", path)
		}
		return nil
	})
}
