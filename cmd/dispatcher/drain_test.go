// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestDrainSignalsTheDispatcher(t *testing.T) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGUSR1)
	defer signal.Stop(signals)
	var stderr bytes.Buffer
	if code := drain(os.Getpid(), &stderr); code != 0 || stderr.Len() > 0 {
		t.Fatalf("exit code %d, %s", code, &stderr)
	}
	select {
	case <-signals:
	case <-time.After(10 * time.Second):
		t.Error("there was no signal")
	}
}

func TestDrainWithoutADispatcher(t *testing.T) {
	var stderr bytes.Buffer
	const nobody = 1 << 22 // more than Linux gives out
	if code := drain(nobody, &stderr); code != 1 || !strings.Contains(stderr.String(), "dispatcher drain: signal process") {
		t.Errorf("exit code %d, %q", code, &stderr)
	}
}
