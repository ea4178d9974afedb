"""Works with time zones and calendars."""

import datetime
import time
import zoneinfo

from probe import ok

moment = datetime.datetime(2026, 7, 1, 12, tzinfo=zoneinfo.ZoneInfo("Europe/Paris"))
assert moment.utcoffset() == datetime.timedelta(hours=2)
assert datetime.datetime.now(datetime.UTC).year >= 2024
assert time.strftime("%Y", time.gmtime(0)) == "1970"
ok("dates")
