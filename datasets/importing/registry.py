"""The kinds of data sets that ``python -m datasets.convert`` knows: a new one is a file beside this and a line here."""

from datasets.importing.folders import FOLDERS
from datasets.importing.multipie import MULTIPIE
from datasets.importing.rafdb import RAFDB
from datasets.importing.table import TABLE

IMPORTERS = (MULTIPIE, RAFDB, FOLDERS, TABLE)
