// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package prober

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"syscall"
	"time"
)

const (
	ownMounts  = "WEBHOOK_PROBER_OWN_MOUNTS"
	resolvConf = "/etc/resolv.conf"
	timeSpaces = "/proc/self/ns/time"
)

// EnterOwnMounts starts this program anew with mounts of its own, so that what the prober mounts is seen by its children
// alone and goes with them, whatever way they end. It returns an error when that is not possible, and does not return
// when it is.
func EnterOwnMounts() error {
	if os.Getenv(ownMounts) != "" {
		return nil
	}
	runtime.LockOSThread() // the thread that leaves the others' mounts is the one that becomes the new program
	defer runtime.UnlockOSThread()
	if err := syscall.Unshare(syscall.CLONE_NEWNS); err != nil {
		return fmt.Errorf("mounts of its own: %w", err)
	}
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("mounts of its own: %w", err)
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	return syscall.Exec(self, os.Args, append(os.Environ(), ownMounts+"=1"))
}

// hasOwnMounts says whether EnterOwnMounts has done its work.
func hasOwnMounts() bool { return os.Getenv(ownMounts) != "" }

// disk is a file system in memory whose size can be changed while it is in use.
type disk struct{ path string }

// mountDisk makes one of so many bytes at the path.
func mountDisk(path string, bytes int64) (disk, error) {
	err := syscall.Mount("tmpfs", path, "tmpfs", 0, "mode=0700,size="+strconv.FormatInt(bytes, 10))
	if err != nil {
		return disk{}, fmt.Errorf("mount %s: %w", path, err)
	}
	return disk{path}, nil
}

func (d disk) resize(bytes int64) error {
	err := syscall.Mount("tmpfs", d.path, "tmpfs", syscall.MS_REMOUNT, "size="+strconv.FormatInt(bytes, 10))
	if err != nil {
		return fmt.Errorf("resize %s: %w", d.path, err)
	}
	return nil
}

// used is how many bytes are taken.
func (d disk) used() (int64, error) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(d.path, &s); err != nil {
		return 0, err
	}
	return int64(s.Blocks-s.Bfree) * s.Bsize, nil
}

func (d disk) unmount() { _ = syscall.Unmount(d.path, syscall.MNT_DETACH) } // it goes with the process in any case

// resolveBy has this process and its children ask the name server.
func resolveBy(address, file string) error {
	if err := os.WriteFile(file, []byte("nameserver "+address+"\noptions timeout:1 attempts:2\n"), 0o600); err != nil {
		return err
	}
	if err := syscall.Mount(file, resolvConf, "", syscall.MS_BIND, ""); err != nil {
		return fmt.Errorf("mount %s: %w", resolvConf, err)
	}
	return nil
}

// clockLauncher starts a program with a monotonic clock that is ahead by so much; nil when that is not possible.
func clockLauncher(ahead time.Duration) []string {
	unshare, err := exec.LookPath("unshare")
	if err != nil {
		return nil
	}
	seconds := strconv.Itoa(int(ahead.Seconds()))
	launcher := []string{unshare, "--time", "--monotonic=" + seconds, "--boottime=" + seconds}
	if exec.Command(launcher[0], append(launcher[1:], "true")...).Run() != nil {
		return nil
	}
	return launcher
}

// sameClock says whether a process has this one's monotonic clock.
func sameClock(pid int) bool {
	ours, err := os.Readlink(timeSpaces)
	theirs, failed := os.Readlink(fmt.Sprintf("/proc/%d/ns/time", pid))
	return err != nil || failed != nil || ours == theirs
}

func pause(pid int) error  { return syscall.Kill(pid, syscall.SIGSTOP) }
func resume(pid int) error { return syscall.Kill(pid, syscall.SIGCONT) }
