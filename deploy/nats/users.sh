#!/usr/bin/env bash
#
# Users of the account in nsc's present context, one a role, with the permissions of subjects.md for the pool payments.
# For another pool, replace payments. `nsc generate creds -n worker` then writes the file that --creds takes.
set -euo pipefail

nsc add user --name publisher \
  --allow-pub 'payments.cus_42' \
  --allow-pub '$JS.API.DIRECT.GET.KV_payments.$KV.payments.cus_42' \
  --allow-sub '_INBOX_publisher.>'

nsc add user --name caller \
  --allow-pub 'payments.*' \
  --allow-pub '$JS.API.STREAM.INFO.KV_payments' \
  --allow-pub '$JS.API.STREAM.INFO.JOBS_payments' \
  --allow-pub '$JS.API.CONSUMER.CREATE.KV_payments.>' \
  --allow-pub '$JS.API.CONSUMER.DELETE.KV_payments.>' \
  --allow-pub '$JS.API.DIRECT.GET.KV_payments.>' \
  --allow-pub '$JS.API.DIRECT.GET.DEAD_payments' \
  --allow-pub '$JS.API.STREAM.MSG.GET.JOBS_payments' \
  --allow-pub '$JS.API.STREAM.MSG.GET.KV_payments' \
  --allow-pub '$JS.FC.KV_payments.>' \
  --allow-sub '_INBOX_caller.>'

nsc add user --name worker \
  --allow-pub 'payments.*' \
  --allow-pub 'payments.*.call.*' \
  --allow-pub 'payments.*.retry.*' \
  --allow-pub 'payments.*.sent.*' \
  --allow-pub 'payments.*.dead.*' \
  --allow-pub 'payments.rate.*' \
  --allow-pub 'payments.told.*' \
  --allow-pub '$O.payments-bodies.>' \
  --allow-pub '$KV.payments.*' \
  --allow-pub '$JS.API.STREAM.INFO.*' \
  --allow-pub '$JS.API.STREAM.MSG.GET.JOBS_payments' \
  --allow-pub '$JS.API.STREAM.MSG.GET.CALLS_payments' \
  --allow-pub '$JS.API.STREAM.MSG.GET.DEAD_payments' \
  --allow-pub '$JS.API.STREAM.MSG.GET.KV_payments' \
  --allow-pub '$JS.API.STREAM.MSG.GET.KV_thence-keys' \
  --allow-pub '$JS.API.STREAM.MSG.GET.RATES_payments' \
  --allow-pub '$JS.API.STREAM.MSG.GET.OBJ_payments-bodies' \
  --allow-pub '$JS.API.STREAM.PURGE.OBJ_payments-bodies' \
  --allow-pub '$JS.API.DIRECT.GET.JOBS_payments' \
  --allow-pub '$JS.API.DIRECT.GET.KV_payments.>' \
  --allow-pub '$JS.API.DIRECT.GET.OBJ_payments-bodies' \
  --allow-pub '$JS.API.CONSUMER.INFO.JOBS_payments.*' \
  --allow-pub '$JS.API.CONSUMER.INFO.CALLS_payments.*' \
  --allow-pub '$JS.API.CONSUMER.LIST.JOBS_payments' \
  --allow-pub '$JS.API.CONSUMER.LIST.CALLS_payments' \
  --allow-pub '$JS.API.CONSUMER.CREATE.CALLS_payments.>' \
  --allow-pub '$JS.API.CONSUMER.PAUSE.CALLS_payments.*' \
  --allow-pub '$JS.API.CONSUMER.MSG.NEXT.JOBS_payments.workers' \
  --allow-pub '$JS.API.CONSUMER.MSG.NEXT.CALLS_payments.*' \
  --allow-pub '$JS.ACK.JOBS_payments.>' \
  --allow-pub '$JS.ACK.CALLS_payments.>' \
  --allow-pub '$JS.ACK.*.*.JOBS_payments.>' \
  --allow-pub '$JS.ACK.*.*.CALLS_payments.>' \
  --allow-sub '_INBOX_worker.>' \
  --allow-sub 'payments.ask.services' \
  --allow-sub '$JS.EVENT.ADVISORY.CONSUMER.PAUSE.CALLS_payments.*'

nsc add user --name setup \
  --allow-pub '$KV.thence-keys.keys' \
  --allow-pub '$JS.API.INFO' \
  --allow-pub '$JS.API.STREAM.INFO.*' \
  --allow-pub '$JS.API.STREAM.CREATE.*' \
  --allow-pub '$JS.API.STREAM.UPDATE.*' \
  --allow-pub '$JS.API.STREAM.MSG.GET.KV_thence-keys' \
  --allow-pub '$JS.API.CONSUMER.INFO.JOBS_payments.*' \
  --allow-pub '$JS.API.CONSUMER.INFO.CALLS_payments.*' \
  --allow-pub '$JS.API.CONSUMER.CREATE.JOBS_payments.>' \
  --allow-pub '$JS.API.CONSUMER.CREATE.CALLS_payments.>' \
  --allow-sub '_INBOX_setup.>'

nsc add user --name on-call \
  --allow-pub 'payments.*' \
  --allow-pub '$KV.payments.*' \
  --allow-pub '$JS.API.INFO' \
  --allow-pub '$JS.API.STREAM.NAMES' \
  --allow-pub '$JS.API.STREAM.INFO.*' \
  --allow-pub '$JS.API.STREAM.MSG.GET.*' \
  --allow-pub '$JS.API.DIRECT.GET.>' \
  --allow-pub 'payments.ask.services' \
  --allow-pub '$JS.API.CONSUMER.LIST.*' \
  --allow-pub '$JS.API.CONSUMER.INFO.CALLS_payments.*' \
  --allow-pub '$JS.API.CONSUMER.PAUSE.CALLS_payments.*' \
  --allow-pub '$JS.API.CONSUMER.*.KV_payments.>' \
  --allow-pub '$JS.API.CONSUMER.*.DEAD_payments.>' \
  --allow-pub '$JS.API.CONSUMER.MSG.NEXT.KV_payments.>' \
  --allow-pub '$JS.API.CONSUMER.MSG.NEXT.DEAD_payments.>' \
  --allow-pub '$JS.API.STREAM.MSG.DELETE.DEAD_payments' \
  --allow-pub '$JS.API.STREAM.PURGE.CALLS_payments' \
  --allow-pub '$JS.FC.KV_payments.>' \
  --allow-pub '$SYS.REQ.ACCOUNT.PING.CONNZ' \
  --allow-sub '_INBOX_on-call.>' \
  --allow-sub 'payments.told.*'

nsc add user --name console \
  --allow-pub '$JS.API.STREAM.NAMES' \
  --allow-pub '$JS.API.STREAM.INFO.*' \
  --allow-pub '$JS.API.DIRECT.GET.JOBS_payments' \
  --allow-pub '$JS.API.DIRECT.GET.KV_payments.>' \
  --allow-pub '$JS.API.DIRECT.GET.DEAD_payments' \
  --allow-pub '$JS.API.CONSUMER.LIST.*' \
  --allow-pub '$JS.API.CONSUMER.CREATE.KV_payments.>' \
  --allow-pub '$JS.API.CONSUMER.DELETE.KV_payments.>' \
  --allow-pub '$JS.API.CONSUMER.CREATE.DEAD_payments.>' \
  --allow-pub '$JS.API.CONSUMER.DELETE.DEAD_payments.>' \
  --allow-pub '$JS.API.CONSUMER.MSG.NEXT.KV_payments.>' \
  --allow-pub '$JS.API.CONSUMER.MSG.NEXT.DEAD_payments.>' \
  --allow-pub '$JS.FC.KV_payments.>' \
  --allow-sub '_INBOX_console.>'
