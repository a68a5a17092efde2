// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package supply holds the checks of what the binaries are made of to their promise: they fail when they should, and
// when they cannot tell.
package supply

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The statuses of the script.
const (
	fine   = 0
	found  = 3
	untold = 4
	broken = 5
)

// forgiven begins what .ci/run takes for a check that could not be made, and not for one that failed.
const forgiven = "!!! vulnerabilities: NOT CHECKED: "

// entry is one line of a database's list of modules, and its vulnerability.
type entry struct{ module, pkg, symbol string }

// database writes one in the form of https://vuln.go.dev, as old as modified says.
func database(t *testing.T, modified time.Time, entries ...entry) string {
	t.Helper()
	folder := t.TempDir()
	at := modified.UTC().Format(time.RFC3339)
	write := func(name string, content any) {
		t.Helper()
		text, err := json.Marshal(content)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(folder, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	modules := []any{}
	for i, e := range entries {
		id := "GO-2026-900" + string(rune('0'+i))
		modules = append(modules, map[string]any{"path": e.module, "vulns": []any{map[string]any{"id": id, "modified": at}}})
		write("ID/"+id+".json", map[string]any{
			"schema_version": "1.3.1", "id": id, "modified": at, "published": at, "summary": "made up for a test", "details": "made up for a test",
			"database_specific": map[string]any{"url": "https://vulnerabilities.example/" + id},
			"affected": []any{map[string]any{
				"package":            map[string]any{"name": e.module, "ecosystem": "Go"},
				"ranges":             []any{map[string]any{"type": "SEMVER", "events": []any{map[string]any{"introduced": "0"}}}},
				"ecosystem_specific": map[string]any{"imports": []any{map[string]any{"path": e.pkg, "symbols": []string{e.symbol}}}},
			}},
		})
	}
	write("index/db.json", map[string]any{"modified": at})
	write("index/modules.json", modules)
	return "file://" + folder
}

func root(t *testing.T) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// check runs the script over a package.
func check(t *testing.T, database, pkg string, environment ...string) (status int, output string) {
	t.Helper()
	root := root(t)
	command := exec.CommandContext(t.Context(), filepath.Join(root, "hack", "verify-vulnerabilities.sh"), pkg)
	command.Env = append(append(os.Environ(), "GOVULNDB="+database, "GOVULNCHECK="+tool(t, root)), environment...)
	text, err := command.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return command.ProcessState.ExitCode(), string(text)
}

// tool has make install the pinned one.
func tool(t *testing.T, root string) string {
	t.Helper()
	versions, err := os.ReadFile(filepath.Join(root, "hack", "versions.env"))
	if err != nil {
		t.Fatal(err)
	}
	_, version, _ := strings.Cut(string(versions), "GOVULNCHECK_VERSION=")
	version, _, _ = strings.Cut(version, "\n")
	path := filepath.Join(root, "bin", "govulncheck-"+version)
	command := exec.CommandContext(t.Context(), "make", path)
	command.Dir = root
	if text, err := command.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return path
}

func TestVulnerabilities(t *testing.T) {
	ours, now := entry{"code.dny.dev/ssrf", "code.dny.dev/ssrf", "New"}, time.Now()
	stdlib := entry{"stdlib", "net/http/cgi", "Serve"}
	const little = "./internal/egress" // which uses little
	whole := database(t, now, stdlib)
	for name, tc := range map[string]struct {
		database    string
		want        int
		says        string
		pkg         string
		environment string
	}{
		"nothing that is called":       {whole, fine, "no known vulnerability", little, ""},
		"a function that is called":    {database(t, now, stdlib, ours), found, "GO-2026-9001", little, ""},
		"a database that is old":       {database(t, now.AddDate(0, 0, -20), stdlib), untold, "20 days old", little, ""},
		"a database that is empty":     {database(t, now), untold, "no whole mirror", little, ""},
		"a folder that is no database": {"file://" + t.TempDir(), untold, "has no index", little, ""},
		"a folder that is not there":   {"file:///nowhere", untold, "has no index", little, ""},
		"a host out of reach":          {"http://127.0.0.1:1", untold, "cannot be reached", little, ""},
		"no toolchain":                 {whole, untold, "the toolchain nonsense", little, "GOTOOLCHAIN=nonsense"},
		"a package that is not there":  {whole, broken, "govulncheck ended with status", "./internal/nowhere", ""},
		"no tool":                      {whole, broken, "make installs it", little, "GOVULNCHECK=/nowhere"},
	} {
		t.Run(name, func(t *testing.T) {
			status, output := check(t, tc.database, tc.pkg, tc.environment)
			if status != tc.want || !strings.Contains(output, tc.says) {
				t.Errorf("status %d, want %d and to be told %q:\n%s", status, tc.want, tc.says, output)
			}
			if strings.Contains(output, forgiven) != (tc.want == untold) {
				t.Errorf("status %d is told with or without %q, which is for status %d alone:\n%s", status, forgiven, untold, output)
			}
		})
	}
}

// TestForgiven holds .ci/run to the text of the script.
func TestForgiven(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root(t), ".ci", "run"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), "grep -q '^"+forgiven+"'") {
		t.Errorf(".ci/run does not look for %q", forgiven)
	}
}
