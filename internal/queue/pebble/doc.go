// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package pebble is the embedded engine of the queue: a Pebble database that holds the backlog, and a window of it in
// memory.
//
// # Commit point
//
// One goroutine, the committer, makes every write: it collects the requests that wait, decides them in order, and
// applies them as one atomic batch. A second goroutine waits for the syncs in the same order, publishes the effects to
// memory, and answers the callers. So a request is answered after its own batch and all before it are on disk, and the
// next batch is built while the last one is being synced. Nothing that is not synced is counted or handed out as a
// record.
//
// A crash before the sync leaves nothing of a batch; a crash after it leaves all. A delivery that was in flight stays
// under its key and is due again. Its interruption is known from a file of small slots beside the database: a record
// written to the database without a sync would stay in the memory of the process that is about to die, whereas a slot
// is in the hands of the operating system when the write returns.
//
// # Hand-over
//
// A delivery of another queue is looked for under held, where each stands that was taken over, and in a queue that
// Receives each of its own too, for as long as it waits or is a dead letter. What this queue has delivered or handed over
// itself is not known any more: it would be taken again. LeaseWaiting goes through the lanes on disk, one after the
// other; where it stopped it goes on, since what it has passed is mostly deleted by then. LeaseDead does so with the dead
// letters. Such a lease holds nothing back: a dead letter that was redelivered or has expired when it is handed over is
// passed over. One that is taken over keeps the time to which it is kept, and is neither counted nor told of.
//
// # Redelivery
//
// An order is carried out in parts. The dead letters are read as they are on disk, outside the committer, the oldest
// first; what is found is looked up again by the committer, which in one batch deletes each dead letter, adds a delivery
// with a copy of its event under a new seq, and notes under order how far it came. So a crash leaves a part done or not
// done, and an order that is repeated goes on behind it: what was moved is no dead letter any more, and what failed since
// the order began, or under it, is not of it. The last batch notes that the order is done; from then on it has that result,
// with what was handed over since on top while its limit is not used up. An order ends where there is no room for more; when there was none for the first one it is as if it had not come.
//
// # What is deleted leaves the disk
//
// Pebble keeps what was deleted: in its log until the memtable is flushed, which takes days where little happens, in
// tables until they are compacted, and in logs that it keeps to write over them. So logs are deleted rather than kept,
// and within an hour of the deletion of an event, a minute after a start, and at a close, for at most a second, there is a
// flush and a compaction of the tables event and dead: then the payload of what was delivered, or has failed and expired,
// is in no file. Nothing is compacted while nothing is deleted.
//
// When a sync fails, the queue is broken: every call answers with that error until the process starts again.
//
// # Bounds
//
// Append answers queue.ErrFull when the live bytes reach MaxBytes, the files DiskBytes, or the free space of the disk
// falls below ReserveBytes; it goes on by itself when there is room again. When a write finds the disk full all the
// same, a ballast is given up for it, and nothing is leased while less than half of its bytes are free. An endpoint's
// deliveries take EndpointShare of MaxBytes at most; beyond that they end as QueueFull. Dead letters are bounded in
// bytes and age, the oldest dropped first; idempotency keys in number and age; orders in number, 1,000, and by the age
// of a dead letter and an hour more. Of the outbox, when it is full, a record of a delivery that goes on is left out; a
// record of one that is done takes the place of the oldest success, then of the oldest pending and retrying one, then,
// if it is a failure itself, of the oldest failure. Each record left out whose delivery was done is counted as
// unrecorded. In memory there are per endpoint at most 64 waiting deliveries, and the ids of the outbox and of what is
// in flight; endpoints and their counters stay for as long as the queue lives.
//
// # Format
//
// A key begins with one byte that names its table. Numbers in keys are big endian, times in keys are milliseconds
// since 1970, so that keys sort by them. A lane is the waiting line of one endpoint: the first 16 bytes of the SHA-256
// of namespace, a zero byte, and name. Seq numbers events, out numbers outgoing records.
//
//	event      | e | seq 8 |                         event
//	references | c | seq 8 |                         uvarint; only for events with more than one delivery
//	unmatched  | u | seq 8 |                         empty
//	delivery   | d | lane 16 | due 8 | seq 8 |       record
//	dead       | x | expires 8 | lane 16 | seq 8 |   record
//	outbox     | o | out 8 |                         | lane 16 | seq 8 | record
//	lane       | l | lane 16 |                       lane
//	counters   | n | UID |                           counters
//	key        | i | hash 32 |                       key
//	key's age  | j | time 8 | hash 32 |              empty
//	held       | h | lane 16 | event 16 |            empty; of deliveries with flag 2
//	order      | r | order 16 |                      order; by the first 16 bytes of the SHA-256 of its id
//	format     | m | f |                             uvarint, now 1
//	queue id   | m | q |                             text
//	totals     | m | s |                             totals
//
// A value begins with its version, now 1. A text is a uvarint length and its bytes; a time is a varint of seconds and
// a uvarint of nanoseconds; int is a varint.
//
//	record   | 1 | flags | namespace | name | UID | event id | trigger | state 1 | reason | accepted | deadline | due |
//	         | wait int | count int | max int | interruptions int | hops int | completed | redeliverable until |
//	         | type | time | call id | agent id | bytes int | SHA-256 32 | n uvarint | n times attempt |
//	         | order id | order name |; these two with flag 4 only
//	         flags: 1 = the event has more than one delivery, so that it has a reference count; 2 = it stands under
//	         held, by the first 16 bytes of the SHA-256 of its event's id, the body's SHA-256, and the acceptance in
//	         nanoseconds since 1970, 8 bytes; 4 = it was asked for by an order
//	attempt  | number int | start | duration int | outcome | code int | message | retry after int |
//	event    | 1 | id | namespace | type | time | call id | agent id | accepted | SHA-256 32 | payload to the end |
//	lane     | 1 | namespace | name | UID | waiting int | bytes int | gone incarnation |
//	counters | 1 | namespace | name | succeeded int | failed int | unrecorded int | last success | last failure |
//	key      | 1 | time int | body's SHA-256 32 | event id | deliveries int |
//	order    | 1 | flags | began int | updated int | matched int | moved int |; the times in milliseconds since 1970
//	         flags: 1 = it is done; 2 = there was no room for more
//	totals   | 1 | next seq uvarint | next out uvarint | live int | dead int | dead letters int | unmatched int |
//	         | keys int |
//
// Constants are never changed, only added to.
//
// # Locks
//
// Queue.use is held for reading during a call that reads the database or submits a request, and for writing by Close.
// Queue.mu guards what is published. Order: ordering, use, passing, mu; never the other way, and neither use nor mu is held
// while the gate is asked. Ordering and passing have calls take turns.
package pebble
