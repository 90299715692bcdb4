"""The kinds of data sets that ``python -m datasets.convert`` knows: a new one is a file beside this and a line here."""

from datasets.importing.affectnet import AFFECTNET
from datasets.importing.ckplus import CKPLUS
from datasets.importing.expw import EXPW
from datasets.importing.fer2013 import FER2013
from datasets.importing.folders import FOLDERS
from datasets.importing.jaffe import JAFFE
from datasets.importing.kdef import KDEF
from datasets.importing.multipie import MULTIPIE
from datasets.importing.oulu import OULU
from datasets.importing.rafdb import RAFDB
from datasets.importing.table import TABLE

IMPORTERS = (MULTIPIE, RAFDB, FER2013, AFFECTNET, EXPW, CKPLUS, OULU, JAFFE, KDEF, FOLDERS, TABLE)
