// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package manifests holds what users are given to install and to configure against the tools that read it: kubectl, Helm,
// Argo CD.
package manifests

import (
	"os"
	"path/filepath"
	"testing"

	lua "github.com/yuin/gopher-lua"
	"sigs.k8s.io/yaml"
)

const customizations = "../../config/argocd"

type healthStatus struct {
	Status  string `json:"status"`
	Message string `json:"message"`
}

// healthTests is the form of Argo CD's own tests of its customizations.
type healthTests struct {
	Tests []struct {
		HealthStatus healthStatus `json:"healthStatus"`
		InputPath    string       `json:"inputPath"`
	} `json:"tests"`
}

func TestArgoCDHealth(t *testing.T) {
	scripts, err := filepath.Glob(customizations + "/*/*/health.lua")
	if err != nil || len(scripts) < 2 {
		t.Fatalf("%d scripts, %v", len(scripts), err)
	}
	for _, script := range scripts {
		folder := filepath.Dir(script)
		var all healthTests
		read(t, filepath.Join(folder, "health_test.yaml"), &all)
		if len(all.Tests) == 0 {
			t.Errorf("%s has no tests", folder)
		}
		for _, tc := range all.Tests {
			t.Run(filepath.Base(folder)+"/"+filepath.Base(tc.InputPath), func(t *testing.T) {
				var object map[string]any
				read(t, filepath.Join(folder, tc.InputPath), &object)
				if got := health(t, script, object); got != tc.HealthStatus {
					t.Errorf("health is %+v, want %+v", got, tc.HealthStatus)
				}
			})
		}
	}
}

func read(t *testing.T, path string, into any) {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(content, into); err != nil {
		t.Fatal(err)
	}
}

// health runs a script as Argo CD does: without the standard libraries but the basic one, the object in obj.
func health(t *testing.T, script string, object map[string]any) healthStatus {
	t.Helper()
	state := lua.NewState(lua.Options{SkipOpenLibs: true})
	defer state.Close()
	state.Push(state.NewFunction(lua.OpenBase))
	state.Push(lua.LString(lua.BaseLibName))
	state.Call(1, 0)
	state.SetGlobal("obj", valueOf(state, object))
	content, err := os.ReadFile(script)
	if err != nil {
		t.Fatal(err)
	}
	if err := state.DoString(string(content)); err != nil {
		t.Fatal(err)
	}
	result, ok := state.Get(-1).(*lua.LTable)
	if !ok {
		t.Fatal("the script returns no table")
	}
	return healthStatus{Status: lua.LVAsString(result.RawGetString("status")), Message: lua.LVAsString(result.RawGetString("message"))}
}

func valueOf(state *lua.LState, v any) lua.LValue {
	switch v := v.(type) {
	case map[string]any:
		table := state.NewTable()
		for key, value := range v {
			table.RawSetString(key, valueOf(state, value))
		}
		return table
	case []any:
		table := state.NewTable()
		for _, value := range v {
			table.Append(valueOf(state, value))
		}
		return table
	case string:
		return lua.LString(v)
	case float64:
		return lua.LNumber(v)
	case bool:
		return lua.LBool(v)
	}
	return lua.LNil
}
