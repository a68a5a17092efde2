//go:build node

// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package node

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// process is one in a container, as the node sees it.
type process struct {
	pid  int
	name string
}

// processesOf are those of a pod, found by their cgroup.
func processesOf(t *testing.T, podUID string) (all []process) {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		groups, err := os.ReadFile(file)
		if err != nil || !strings.Contains(string(groups), podUID) {
			continue
		}
		folder := filepath.Dir(file)
		pid, err := strconv.Atoi(filepath.Base(folder))
		if err != nil {
			t.Fatal(err)
		}
		name, err := os.ReadFile(folder + "/comm")
		if err != nil {
			continue // it ended meanwhile
		}
		all = append(all, process{pid: pid, name: strings.TrimSpace(string(name))})
	}
	return all
}

// one is the pod's process of that name, which has to be there.
func one(t *testing.T, name, podUID string) process {
	t.Helper()
	for _, p := range processesOf(t, podUID) {
		if p.name == name {
			return p
		}
	}
	t.Fatalf("no process %s", name)
	return process{}
}

func (p process) kill(t *testing.T) {
	t.Helper()
	if err := syscall.Kill(p.pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		t.Fatal(err)
	}
}

// list names the files in a folder of the process's own root.
func (p process) list(t *testing.T, folder string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir("/proc/" + strconv.Itoa(p.pid) + "/root" + folder)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// cgroup is the folder of the process in a controller's hierarchy; with cgroups of version 2 there is one for all.
func (p process) cgroup(t *testing.T, controller string) string {
	t.Helper()
	groups, err := os.ReadFile("/proc/" + strconv.Itoa(p.pid) + "/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(groups)) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		switch {
		case len(parts) != 3:
		case unified() && parts[1] == "":
			return "/sys/fs/cgroup" + parts[2]
		case !unified() && strings.Contains(","+parts[1]+",", ","+controller+","):
			return "/sys/fs/cgroup/" + controller + parts[2]
		}
	}
	t.Fatalf("no cgroup of the controller %s", controller)
	return ""
}

func unified() bool {
	_, err := os.Stat("/sys/fs/cgroup/cgroup.controllers")
	return err == nil
}

func (p process) cpuSeconds(t *testing.T) float64 {
	t.Helper()
	if unified() {
		return stat(t, p.cgroup(t, "cpu")+"/cpu.stat", "usage_usec") / 1e6
	}
	return number(t, p.cgroup(t, "cpuacct")+"/cpuacct.usage") / 1e9
}

// memory is the working set in bytes, as a kubelet reckons it.
func (p process) memory(t *testing.T) float64 {
	t.Helper()
	folder := p.cgroup(t, "memory")
	if unified() {
		return number(t, folder+"/memory.current") - stat(t, folder+"/memory.stat", "inactive_file")
	}
	return number(t, folder+"/memory.usage_in_bytes") - stat(t, folder+"/memory.stat", "total_inactive_file")
}

func number(t *testing.T, file string) float64 {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.ParseFloat(strings.TrimSpace(string(content)), 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func stat(t *testing.T, file, name string) float64 {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(content)) {
		if key, value, _ := strings.Cut(strings.TrimSpace(line), " "); key == name {
			n, err := strconv.ParseFloat(value, 64)
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatalf("%s has no %s", file, name)
	return 0
}
