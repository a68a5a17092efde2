// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package pebble

import (
	"os"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// cutFS tells of each change of a disk, once it is made: a write, a sync, a name that comes or goes.
type cutFS struct {
	vfs.FS
	// changed is called on the goroutine that made the change.
	changed func(what, file string)
	// syncing is called before a sync; nil is nothing.
	syncing func()
}

func (fs *cutFS) file(f vfs.File, name string) vfs.File { return &cutFile{f, fs, kindOf(name)} }

func (fs *cutFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := fs.FS.Create(name, c)
	fs.changed("create", kindOf(name))
	return fs.file(f, name), err
}

func (fs *cutFS) ReuseForWrite(from, to string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := fs.FS.ReuseForWrite(from, to, c)
	fs.changed("reuse", kindOf(to))
	return fs.file(f, to), err
}

func (fs *cutFS) OpenReadWrite(name string, c vfs.DiskWriteCategory, o ...vfs.OpenOption) (vfs.File, error) {
	f, err := fs.FS.OpenReadWrite(name, c, o...)
	fs.changed("open", kindOf(name))
	return fs.file(f, name), err
}

func (fs *cutFS) OpenDir(name string) (vfs.File, error) {
	f, err := fs.FS.OpenDir(name)
	return &cutFile{f, fs, "directory"}, err
}

func (fs *cutFS) Link(from, to string) error {
	err := fs.FS.Link(from, to)
	fs.changed("link", kindOf(to))
	return err
}

func (fs *cutFS) Remove(name string) error {
	err := fs.FS.Remove(name)
	fs.changed("remove", kindOf(name))
	return err
}

func (fs *cutFS) Rename(from, to string) error {
	err := fs.FS.Rename(from, to)
	fs.changed("rename", kindOf(to))
	return err
}

func (fs *cutFS) MkdirAll(name string, perm os.FileMode) error {
	err := fs.FS.MkdirAll(name, perm)
	fs.changed("create", "directory")
	return err
}

type cutFile struct {
	vfs.File
	fs   *cutFS
	kind string
}

func (f *cutFile) Write(p []byte) (int, error) {
	n, err := f.File.Write(p)
	f.fs.changed("write", f.kind)
	return n, err
}

func (f *cutFile) WriteAt(p []byte, at int64) (int, error) {
	n, err := f.File.WriteAt(p, at)
	f.fs.changed("write", f.kind)
	return n, err
}

func (f *cutFile) Sync() error { return f.sync(f.File.Sync) }

func (f *cutFile) SyncData() error { return f.sync(f.File.SyncData) }

func (f *cutFile) SyncTo(length int64) (full bool, err error) {
	err = f.sync(func() error {
		full, err = f.File.SyncTo(length)
		return err
	})
	return full, err
}

func (f *cutFile) sync(sync func() error) error {
	if f.fs.syncing != nil {
		f.fs.syncing()
	}
	err := sync()
	f.fs.changed("sync", f.kind)
	return err
}

// kindOf says what a file of the queue is for.
func kindOf(name string) string {
	base := name[strings.LastIndexByte(name, '/')+1:]
	switch {
	case base == fileMarks, base == fileBallast, base == "LOCK":
		return base
	case strings.HasSuffix(base, ".log"):
		return "log"
	case strings.HasSuffix(base, ".sst"):
		return "table"
	case strings.HasPrefix(base, "MANIFEST"):
		return "manifest"
	case strings.HasPrefix(base, "OPTIONS"):
		return "options"
	case strings.HasPrefix(base, "marker"):
		return "marker"
	}
	return "other"
}
