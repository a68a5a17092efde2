// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"os"
	"path/filepath"
	"time"
)

const (
	diskSyncs     = 50
	diskSyncBytes = 4 * kiB
)

// diskSync is how long the disk takes for a write and its fsync, in the median: what no answer of 202 can be faster than.
func diskSync(dir string) (_ time.Duration, err error) {
	f, err := os.Create(filepath.Join(dir, "sync"))
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.Close(), os.Remove(f.Name())) }()
	block, taken := make([]byte, diskSyncBytes), []float64{}
	for range diskSyncs {
		begun := time.Now()
		if _, err := f.Write(block); err != nil {
			return 0, err
		}
		if err := f.Sync(); err != nil {
			return 0, err
		}
		taken = append(taken, float64(time.Since(begun)))
	}
	return time.Duration(median(taken)), nil
}
