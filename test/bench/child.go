// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/garyclub/webhook-operator/internal/fixture/process"
)

// The roles in which this program starts itself. Each is given a file with its options; those that end leave their
// result beside it.
const (
	roleReceive  = "receive"
	roleGenerate = "generate"
	roleClimb    = "climb"
)

// start starts this program in a role.
func start(dir, role string, options any) (*process.Process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	content, err := json.Marshal(options)
	if err != nil {
		return nil, err
	}
	file := filepath.Join(dir, role+".json")
	if err := os.WriteFile(file, content, 0o600); err != nil {
		return nil, err
	}
	return process.Start(self, []string{role, file}, filepath.Join(dir, role+".log"), nil)
}

// have starts a role that ends, and returns its result.
func have[R any](ctx context.Context, dir, role string, options any) (result R, err error) {
	p, err := start(dir, role, options)
	if err != nil {
		return result, err
	}
	if err := p.Wait(ctx); err != nil {
		return result, fmt.Errorf("%s: %w", role, err)
	}
	content, err := os.ReadFile(resultFile(filepath.Join(dir, role+".json")))
	if err != nil {
		return result, err
	}
	return result, json.Unmarshal(content, &result)
}

func resultFile(options string) string { return options + ".result" }

// play is this process in a role.
func play(role, file string) error {
	switch role {
	case roleReceive:
		return playWith(file, func(o ReceiverOptions) (struct{}, error) { return struct{}{}, receive(o) })
	case roleGenerate:
		return playWith(file, generate)
	case roleClimb:
		return playWith(file, climb)
	}
	return fmt.Errorf("no role %q", role)
}

func playWith[O, R any](file string, role func(O) (R, error)) error {
	content, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var options O
	if err := json.Unmarshal(content, &options); err != nil {
		return err
	}
	result, err := role(options)
	if err != nil {
		return err
	}
	if content, err = json.Marshal(result); err != nil {
		return err
	}
	return os.WriteFile(resultFile(file), content, 0o600)
}
