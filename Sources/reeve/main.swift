import ReeveApp

hello()
