"""What a user does with a generated client, from an event to a receipt. Run by tests/it/api_docs.rs."""

import os
import time
from io import BytesIO

from photogate_client import AuthenticatedClient
from photogate_client.api.credits_ import get_balance, report_payment
from photogate_client.api.books import get_receipt
from photogate_client.api.events import change_event, create_event, list_events, set_start_list
from photogate_client.api.photos import list_photos, search_selfie
from photogate_client.api.runs import get_run, list_run_photos, queue_photos
from photogate_client.models import (
    Event,
    EventChange,
    NewEvent,
    NewRun,
    Operations,
    PagePhoto,
    Planned,
    Problem,
    ReportPaymentBody,
    Run,
)
from photogate_client.types import File

client = AuthenticatedClient(
    base_url=os.environ["PHOTOGATE"], token=os.environ["TOKEN"], raise_on_unexpected_status=True
)
event = int(os.environ["EVENT"])

# An event, and the pages of a list.
made = create_event.sync(client=client, body=NewEvent(name="Marathon", reference="race-1"))
again = create_event.sync_detailed(client=client, body=NewEvent(name="Marathon", reference="race-1"))
assert isinstance(made, Event) and again.status_code == 200 and again.parsed.id == made.id
seen, after = [], None
while True:
    page = list_events.sync(client=client, limit=1, **({"after": after} if after else {}))
    seen += [one.id for one in page.items]
    assert all(isinstance(one, Event) for one in page.items)
    after = page.next_
    if after is None:
        break
assert {made.id, event} <= set(seen) and len(seen) == len(set(seen)), seen
renamed = change_event.sync(made.id, client=client, body=EventChange(name="City Marathon"))
assert renamed.name == "City Marathon"

# A start list is a file.
numbers = File(payload=BytesIO(b"bib\n1482\nA207\n"))
assert set_start_list.sync(made.id, client=client, body=numbers).numbers == 2

# Photos are queued; the run is polled until it is over.
keys = ["gala/DSC_0001.jpg", "gala/DSC_0002.png"]
plan = queue_photos.sync(event, client=client, body=NewRun(operation=Operations.PHOTO_PROCESSING, keys=keys))
assert isinstance(plan, Planned) and plan.queued == 2 and plan.shortfall == 0, plan
[run] = plan.runs
while True:
    state = get_run.sync(run, client=client)
    assert isinstance(state, Run)
    if state.waiting + state.in_progress == 0:
        break
    time.sleep(0.1)
assert state.processed == 2, state

# What was found, and what it cost.
photos = list_photos.sync(event, client=client)
assert isinstance(photos, PagePhoto) and sorted(one.key for one in photos.items) == keys
[first, _] = list_run_photos.sync(run, client=client).items
receipt = get_receipt.sync(first.photo, client=client)
assert receipt.key in keys and receipt.jobs[0].state == "processed" and receipt.jobs[0].reserved.entry
assert get_balance.sync(int(receipt.organisation), client=client).available == 98

# A selfie is a file, too.
with open(os.environ["SELFIE"], "rb") as selfie:
    found = search_selfie.sync(event, client=client, body=File(payload=selfie))
assert keys[0] in [one.key for one in found.items], found

# Problems have a type.
problem = get_run.sync(999_999, client=client)
assert isinstance(problem, Problem) and problem.code == "not_found" and problem.retryable is False
problem = report_payment.sync("stripe", client=client, body=ReportPaymentBody(), stripe_signature="t=1,v1=00")
assert isinstance(problem, Problem), problem
print("walked to the end")
