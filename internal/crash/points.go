package crash

// Variable names the place at which the process dies: "<point>:<n>", where n counts how often the process came there.
const Variable = "THENCE_CRASH"

// Point is a place in the path of a job or a call.
type Point string

// The path of a job.
const (
	JobTaken       Point = "job.taken"       // a delivery has arrived
	ContextRead    Point = "context.read"    // the context is read or taken from the cache
	HeadRead       Point = "head.read"       // the next job of the context is known
	MarkBefore     Point = "mark.before"     // a job under suspicion is about to be counted
	MarkAfter      Point = "mark.after"      // it is counted, and not begun
	RunBefore      Point = "run.before"      // the script is about to run
	RunAfter       Point = "run.after"       // it has run, and nothing is stored
	CommitBefore   Point = "commit.before"   // the outcome is encoded
	CommitAfter    Point = "commit.after"    // it is stored, and nothing of its outbox is
	CommitLost     Point = "commit.lost"     // another worker's commit was first
	HoldBefore     Point = "hold.before"     // a failed job is about to hold its context
	HoldAfter      Point = "hold.after"      // the context is held, and the letter that says so is not stored
	OutboxBefore   Point = "outbox.before"   // an effect is about to be published
	OutboxAfter    Point = "outbox.after"    // an effect is stored
	OutboxCall     Point = "outbox.call"     // a call is about to be published
	OutboxJob      Point = "outbox.job"      // a job for this or another context is about to be published
	OutboxDead     Point = "outbox.dead"     // a dead letter is about to be published
	OutboxDone     Point = "outbox.done"     // the whole outbox is stored, and the job is not acked
	ReflushBefore  Point = "reflush.before"  // the outbox of a commit found in the context is about to be published
	ReflushAfter   Point = "reflush.after"   // it is stored
	AckBefore      Point = "ack.before"      // a job has taken effect, and is about to be acked
	AckAfter       Point = "ack.after"       // the ack is sent
	GiveBackBefore Point = "giveback.before" // a stopping worker is about to give a job back
)

// The path of a call.
const (
	CallTaken        Point = "call.taken"         // a call's delivery has arrived
	CallOpen         Point = "call.open"          // the leader says that the call is open
	CallClosed       Point = "call.closed"        // the leader says that it is not
	CallSent         Point = "call.sent"          // the API has answered, and nothing is stored
	CallRetryBefore  Point = "call.retry.before"  // the next try is about to be put on the server's timer
	CallRetryAfter   Point = "call.retry.after"   // it is there, and the try that failed is not acked
	CallAnswerBefore Point = "call.answer.before" // the answer is about to be published
	CallAnswerAfter  Point = "call.answer.after"  // it is stored, and the call is not acked
	CallAckBefore    Point = "call.ack.before"    // the call has served, and is about to be acked
	CallAckAfter     Point = "call.ack.after"     // the ack is sent
)

// Points are all of them.
var Points = []Point{
	JobTaken, ContextRead, HeadRead, MarkBefore, MarkAfter, RunBefore, RunAfter, CommitBefore, CommitAfter, CommitLost, HoldBefore, HoldAfter,
	OutboxBefore, OutboxAfter, OutboxCall, OutboxJob, OutboxDead, OutboxDone, ReflushBefore, ReflushAfter, AckBefore, AckAfter, GiveBackBefore,
	CallTaken, CallOpen, CallClosed, CallSent, CallRetryBefore, CallRetryAfter, CallAnswerBefore, CallAnswerAfter, CallAckBefore, CallAckAfter,
}
