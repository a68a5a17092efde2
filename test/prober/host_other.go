// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package prober

import (
	"errors"
	"syscall"
	"time"
)

var errLinux = errors.New("needs Linux")

// EnterOwnMounts is not possible here.
func EnterOwnMounts() error { return errLinux }

func hasOwnMounts() bool { return false }

type disk struct{}

func mountDisk(string, int64) (disk, error) { return disk{}, errLinux }
func (disk) resize(int64) error             { return errLinux }
func (disk) used() (int64, error)           { return 0, errLinux }
func (disk) unmount()                       {}
func resolveBy(string, string) error        { return errLinux }
func clockLauncher(time.Duration) []string  { return nil }
func sameClock(int) bool                    { return true }
func pause(pid int) error                   { return syscall.Kill(pid, syscall.SIGSTOP) }
func resume(pid int) error                  { return syscall.Kill(pid, syscall.SIGCONT) }
