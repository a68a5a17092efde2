// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package pebble

import (
	"errors"
	"fmt"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// markersLast makes the names in a directory last before one of a marker comes to them or leaves them. A marker says by
// its name which manifest is in use. Pebble has synced what is in that manifest, but makes its name, the new marker, and
// the end of the old one last with one sync behind all three. On a file system that does not keep the order of names, a
// loss of power before that may leave the marker without its manifest, so that the database could not be opened again, or
// no marker, so that it would begin anew.
type markersLast struct{ vfs.FS }

// Create implements vfs.FS.
func (fs markersLast) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if err := fs.before(name); err != nil {
		return nil, err
	}
	return fs.FS.Create(name, c)
}

// Remove implements vfs.FS.
func (fs markersLast) Remove(name string) error {
	if err := fs.before(name); err != nil {
		return err
	}
	return fs.FS.Remove(name)
}

func (fs markersLast) before(name string) error {
	if !strings.HasPrefix(fs.PathBase(name), "marker.") {
		return nil
	}
	return syncNames(fs.FS, fs.PathDir(name))
}

// Unwrap implements vfs.FS.
func (fs markersLast) Unwrap() vfs.FS { return fs.FS }

// syncNames makes the names in a directory last.
func syncNames(fs vfs.FS, name string) error {
	dir, err := fs.OpenDir(name)
	if err != nil {
		return fmt.Errorf("sync directory: %w", err)
	}
	if err := errors.Join(dir.Sync(), dir.Close()); err != nil {
		return fmt.Errorf("sync directory: %w", err)
	}
	return nil
}
