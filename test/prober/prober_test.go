// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package prober

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
)

// account is printed when all else has been.
var account string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	if len(os.Args) == 3 && os.Args[1] == ReceiverArgument {
		fmt.Fprintln(os.Stderr, Receive(os.Args[2]))
		return 1
	}
	if err := EnterOwnMounts(); err != nil {
		fmt.Fprintln(os.Stderr, "!!! not all faults are possible here:", err)
	}
	code := m.Run()
	if account != "" {
		fmt.Println(account)
	}
	return code
}

// What was answered 202 is delivered at least once, or is a failure that can be seen, whatever dies. SEED repeats a
// schedule; E2E_LONG=1 is the long run.
func TestAccount(t *testing.T) {
	seed := rand.Uint64N(1_000_000)
	if text := os.Getenv("SEED"); text != "" {
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatalf("SEED: %v", err)
		}
		seed = n
	}
	plan := Short(seed)
	if os.Getenv("E2E_LONG") == "1" {
		plan = Long(seed)
	}
	dir, err := os.MkdirTemp("", "webhook-operator-prober-") //nolint:usetesting // it stays when the test fails
	if err != nil {
		t.Fatal(err)
	}
	report, problems, err := Run(t.Context(), plan, "../..", dir, os.Stdout)
	account = report.JSON()
	if err != nil {
		t.Error(err)
	}
	for _, p := range problems {
		t.Error(p)
	}
	if t.Failed() {
		t.Logf("logs, queues and ledgers are left in %s", dir)
		return
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Error(err)
	}
}
