// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package main

import "errors"

type syncCounter struct{}

func countSyncs(int) (*syncCounter, error) {
	return nil, errors.New("system calls are counted on Linux only")
}

func (*syncCounter) count() (uint64, error) { return 0, nil }

func (*syncCounter) close() error { return nil }
