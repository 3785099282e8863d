# Every login shell speaks UTF-8, whichever server started it.
export LANG="${LANG:-C.UTF-8}"
