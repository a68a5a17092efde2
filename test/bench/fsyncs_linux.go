// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// syncCounter counts the calls of fsync and fdatasync of one process, by the kernel's own tracepoints: no call is stopped
// or looked at. It needs CAP_SYS_ADMIN and a kernel with CONFIG_FTRACE_SYSCALLS.
type syncCounter struct{ events []int }

var syncCalls = []string{"fsync", "fdatasync"}

// countSyncs counts from now on.
func countSyncs(pid int) (*syncCounter, error) {
	ids, err := tracepoints()
	if err != nil {
		return nil, fmt.Errorf("find the tracepoints of fsync: %w", err)
	}
	c := &syncCounter{}
	attached := map[int]bool{}
	for grown := true; grown; { // a thread may be made while the others are attached; those made later inherit
		grown = false
		threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
		if err != nil {
			return nil, errors.Join(err, c.close())
		}
		for _, t := range threads {
			tid, err := strconv.Atoi(t.Name())
			if err != nil || attached[tid] {
				continue
			}
			attached[tid], grown = true, true
			if err := c.attach(tid, ids); err != nil {
				return nil, errors.Join(err, c.close())
			}
		}
	}
	return c, nil
}

func (c *syncCounter) attach(tid int, ids []uint64) error {
	for _, id := range ids {
		attr := &unix.PerfEventAttr{Type: unix.PERF_TYPE_TRACEPOINT, Config: id, Bits: unix.PerfBitInherit}
		attr.Size = uint32(unsafe.Sizeof(*attr))
		fd, err := unix.PerfEventOpen(attr, tid, -1, -1, unix.PERF_FLAG_FD_CLOEXEC)
		if errors.Is(err, unix.ESRCH) {
			continue // the thread has ended
		}
		if err != nil {
			return fmt.Errorf("count system calls: %w", err)
		}
		c.events = append(c.events, fd)
	}
	return nil
}

// count is the number of calls so far.
func (c *syncCounter) count() (sum uint64, err error) {
	var value [8]byte
	for _, fd := range c.events {
		if _, err := unix.Read(fd, value[:]); err != nil {
			return 0, fmt.Errorf("read a counter: %w", err)
		}
		sum += binary.NativeEndian.Uint64(value[:])
	}
	return sum, nil
}

func (c *syncCounter) close() error {
	var errs []error
	for _, fd := range c.events {
		errs = append(errs, unix.Close(fd))
	}
	return errors.Join(errs...)
}

// tracepoints reads the numbers of the calls from a tracefs that is mounted nowhere, so that nothing is left behind.
func tracepoints() ([]uint64, error) {
	fs, err := unix.Fsopen("tracefs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, err
	}
	defer func() { _ = unix.Close(fs) }()
	if err := unix.FsconfigCreate(fs); err != nil {
		return nil, err
	}
	mount, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = unix.Close(mount) }()
	var ids []uint64
	for _, call := range syncCalls {
		id, err := readNumber(mount, "events/syscalls/sys_enter_"+call+"/id")
		if err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, nil
}

func readNumber(dir int, name string) (uint64, error) {
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("open %s: %w", name, err)
	}
	defer func() { _ = unix.Close(fd) }()
	var text [32]byte
	n, err := unix.Read(fd, text[:])
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", name, err)
	}
	return strconv.ParseUint(strings.TrimSpace(string(text[:n])), 10, 64)
}
