// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"os"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestFiguresOfThisProcess(t *testing.T) {
	used, err := memoryOf(os.Getpid())
	if err != nil || used.resident < 1<<20 || used.peak < used.resident {
		t.Errorf("memory %+v, %v", used, err)
	}
	cpu, err := cpuOf(os.Getpid())
	if own := ownCPU(); err != nil || cpu < 0 || cpu > own+time.Second {
		t.Errorf("processor time %s, by its own account %s, %v", cpu, own, err)
	}
}

// The counter sees the calls of every thread, of those too that are made later.
func TestSyncsAreCounted(t *testing.T) {
	c, err := countSyncs(os.Getpid())
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENOENT) {
		t.Log("not root, or a kernel without these tracepoints: the bench says so and goes on:", err)
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.close() }()
	const mine = 20
	f, err := os.Create(t.TempDir() + "/f")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with it
		var all error
		for range mine {
			all = errors.Join(all, f.Sync())
		}
		done <- all
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if n, err := c.count(); err != nil || n != mine {
		t.Errorf("%d counted, %v; want %d", n, err, mine)
	}
}
