// Package simulation is a world in which the production code of a worker pool runs, and in which everything that may
// happen between it and the outside is drawn from a seed: a server that behaves as JetStream does, HTTP APIs, callers,
// an operator, and faults. The same seed gives the same history, so what fails once can be looked at for as long as it
// takes.
//
// A history runs in a bubble of testing/synctest, so its hours take milliseconds. Every word of a process to the server
// or an API parks the goroutine that says it. The scheduler waits until all goroutines are parked or asleep, then
// makes one move: it performs one of the parked requests, takes an ack from a connection, hands a message to a process,
// lets time pass, or does harm. Moves are chosen by the seed among candidates that are sorted, never in the order in
// which goroutines happened to arrive.
//
// What the model has: streams with sequences, removal by ack, reads from the leader, from replicas that lag (each goes
// forward only) and from a leader that was and does not know it yet, the window in which ids are recognised and what a restart forgets of it, expected revisions,
// message schedules and their replacement, timers of scripts, limits that refuse, consumers with ack waits, delivery counts, delayed NAKs
// and max_ack_pending; requests that are lost, answered too late or not at all, or carried out long after their sender
// gave up; acks that are late or lost; processes that are killed, stopped for minutes and go on, or told to end;
// servers that are away, or lose their power and what they had acked to nobody; streams that are deleted and made anew; a night without any worker; callers that repeat
// themselves and forge; APIs that are slow, fail, ask for patience or say nothing; an operator who pauses, resumes and
// decides over held contexts; releases of scripts that are pushed and rolled back while flows are under way, of which each
// process hears at its own time.
//
// What it does not have: the bytes on the wire and the client library (package stream talks to a real server in its own
// tests; here its configurations of streams and consumers are used, not its requests), loss of what the server had
// acknowledged (see the tests that cut the power), scripts in Tengo, clocks that disagree, more than one pool, payloads near their
// limits.
//
// While a history runs, the oracle checks what no moment may break, and at its end, after a quiet time in which nothing
// is harmed, what must have come of it. It knows what each job was to do from the [Program] that the caller sent, and
// nothing of how workers go about it.
//
// The tests of package worker build the worker on a [Process], run thousands of seeds, and replay one:
//
//	go test ./worker -run TestSimulation -args -replay 4711
//
// The binary that made a history has to be the one that replays it: a change of the code changes which moves there are.
package simulation
