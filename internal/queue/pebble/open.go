// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package pebble

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	pdb "github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/go-logr/logr"
	"github.com/google/uuid"
)

// formatVersion is that of the keys and values.
const formatVersion = 1

// The files beside the database.
const (
	dirDatabase = "db"
	fileBallast = "ballast"
	fileMarks   = "inflight"
)

// Open opens the queue in its directory, or makes one. Deliveries that were in flight when the last process died are
// due again, with one interruption more. The backlog is not read.
func Open(opt Options) (*Queue, error) {
	if err := opt.Validate(); err != nil {
		return nil, fmt.Errorf("queue options: %w", err)
	}
	opt = opt.withDefaults()
	q := newQueue(opt)
	if err := q.makeDirectory(); err != nil {
		return nil, err
	}
	q.space.begin()
	db, err := pdb.Open(opt.FS.PathJoin(opt.Dir, dirDatabase), pebbleOptions(q))
	if err != nil {
		return nil, fmt.Errorf("open queue database: %w", err)
	}
	q.db = db
	if err := q.syncDirectory(opt.Dir); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	if err := q.load(); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	places, err := q.openMarks()
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	q.space.used = func() int64 { return int64(q.db.Metrics().DiskSpaceUsage()) }
	q.space.reclaim = q.reclaim
	go q.commitAll()
	go q.answerAll()
	go q.clock()
	if err := q.interrupt(places); err != nil {
		return nil, errors.Join(err, q.Close())
	}
	return q, nil
}

func newQueue(opt Options) *Queue {
	q := &Queue{
		opt: opt, log: opt.Log,
		ops: make(chan op, maxBatchOps), syncing: make(chan *batch, maxSyncing), answered: make(chan struct{}),
		failed:  make(chan struct{}),
		closing: make(chan struct{}), kicked: make(chan struct{}, 1), clockDone: make(chan struct{}),
		lanes: map[laneID]*lane{}, flying: map[place]struct{}{}, lent: map[string]struct{}{}, counters: map[string]countersAt{},
		book: &book{
			lanes: map[laneID]*laneBook{}, counters: map[string]*counterBook{}, outbox: newOutboxBook(opt.OutboxRecords),
			orders:  map[orderID]orderInfo{},
			lowDead: []byte{tableDead}, lowKey: []byte{tableKeyAge},
			maxDead: opt.DeadLetterBytes, maxKeys: opt.IdempotencyKeys,
		},
		space: &space{
			fs: opt.FS, ballast: opt.FS.PathJoin(opt.Dir, fileBallast), size: opt.BallastBytes,
			reserve: uint64(max(opt.ReserveBytes, 0)), ask: opt.FreeBytes, log: opt.Log, limit: opt.DiskBytes,
		},
	}
	q.book.nextSeq, q.book.nextOut = 1, 1
	return q
}

// pebbleOptions keeps the memory of an idle process small: a memtable begins at 256 KiB and grows with the load.
func pebbleOptions(q *Queue) *pdb.Options {
	o := &pdb.Options{
		FS:                          vfs.OnDiskFull(markersLast{q.opt.FS}, q.space.giveUp),
		FormatMajorVersion:          pdb.FormatTableFormatV6,
		CacheSize:                   8 << 20,
		MemTableSize:                8 << 20,
		MemTableStopWritesThreshold: 4,
		L0CompactionThreshold:       2,
		L0StopWritesThreshold:       24,
		LBaseMaxBytes:               64 << 20,
		MaxOpenFiles:                256,
		MaxManifestFileSize:         4 << 20,
		Logger:                      logger{q.log},
		Cleaner:                     cleaner{},
	}
	for i := range o.Levels {
		o.Levels[i].FilterPolicy = bloom.FilterPolicy(10) // most idempotency keys are new
	}
	return o
}

// logger passes on what Pebble says. A fatal error, such as a manifest that cannot be written, panics: Pebble must not
// go on after it, and the process must not end without a word.
type logger struct{ log logr.Logger }

// Infof implements pebble.Logger.
func (l logger) Infof(format string, args ...any) {
	if log := l.log.V(2); log.Enabled() {
		log.Info("database says", "text", fmt.Sprintf(format, args...))
	}
}

// Errorf implements pebble.Logger.
func (l logger) Errorf(format string, args ...any) {
	l.log.Error(nil, "database has an error", "text", fmt.Sprintf(format, args...))
}

// Fatalf implements pebble.Logger.
func (l logger) Fatalf(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	l.log.Error(nil, "database cannot go on", "text", text)
	panic("queue database cannot go on: " + text)
}

// openMarks opens the file of what is in flight and returns what the last process left in it.
func (q *Queue) openMarks() ([]place, error) {
	name := q.opt.FS.PathJoin(q.opt.Dir, fileMarks)
	f, err := q.opt.FS.OpenReadWrite(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		return nil, fmt.Errorf("open marks: %w", err)
	}
	content, err := io.ReadAll(io.LimitReader(f, markSlots*markSize))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("read marks: %w", err), f.Close())
	}
	q.marks.file = f
	return parseMarks(content), nil
}

// interrupt counts what was in flight, and then forgets it. A crash between the two counts once more.
func (q *Queue) interrupt(places []place) error {
	if len(places) > 0 {
		if _, err := q.submit(context.Background(), &interruptOp{places: places}); err != nil {
			return fmt.Errorf("count interruptions: %w", err)
		}
	}
	return q.clearMarks()
}

// clearMarks writes zeros over all slots and syncs them, so that a full disk later does not keep a mark from being set.
func (q *Queue) clearMarks() error {
	f := q.marks.file
	if _, err := f.WriteAt(make([]byte, markSlots*markSize), 0); err != nil {
		return fmt.Errorf("clear marks: %w", err)
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("clear marks: %w", err)
	}
	return q.syncDirectory(q.opt.Dir)
}

// makeDirectory makes the queue's directory last, if it is not there. Its parent may belong to others, so it is left
// alone otherwise.
func (q *Queue) makeDirectory() error {
	if _, err := q.opt.FS.Stat(q.opt.Dir); err == nil {
		return nil
	}
	if err := q.opt.FS.MkdirAll(q.opt.Dir, 0o700); err != nil {
		return fmt.Errorf("make queue directory: %w", err)
	}
	return q.syncDirectory(q.opt.FS.PathDir(q.opt.Dir))
}

// syncDirectory makes the names in a directory last. Pebble sees to its own directory only.
func (q *Queue) syncDirectory(name string) error {
	return syncNames(q.opt.FS, name)
}

// wipeMarks is for a graceful close: what is in flight was not interrupted.
func (q *Queue) wipeMarks() error {
	err := q.marks.close()
	if rmErr := q.opt.FS.Remove(q.opt.FS.PathJoin(q.opt.Dir, fileMarks)); !errors.Is(rmErr, os.ErrNotExist) {
		err = errors.Join(err, rmErr)
	}
	if err != nil {
		return fmt.Errorf("remove marks: %w", err)
	}
	return nil
}

func newQueueID() string { return uuid.NewString() }
