"""Word tables of the fictional world. All names are invented."""

from __future__ import annotations


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def _phrases(text: str) -> tuple[str, ...]:
    return tuple(text.split(", "))


FIRST_NAMES = _words(
    "Adela Bram Corin Dessa Edrik Fenna Goran Hedda Ilmar Jorun Kasper Liora Marek Nessa Oswin Petra Quill Ronja Sorin "
    "Thea Ulrik Vesna Wendel Ysolde Zoran Alba Birger Carla Dorian Elske Florian Greta Harlan Irena Jasper Katla Leif "
    "Mirja Nils Odile"
)

LAST_NAMES = _words(
    "Aldane Barrowick Cresthal Dunmarsh Eastermoor Farrowby Glenharrow Hollenbeck Ironwell Jarrowend Kesterling "
    "Lindquarry Marlowick Northgrove Oakhurst Penhallow Quarrington Ravensby Stonefield Tarnbrook Underhay Vintermark "
    "Wexcombe Yarrowdale Ambershaw Brindlecot Coldwater Drayfield Elmsworth Foxglade Graymantle Hawkridge Inglebrand "
    "Kettlewell Larkspurn Mossendale Nettleford Orchardine Pikestaff Rookwood"
)

TOWN_STARTS = _words("Vel Mor Tas Kir Lan Bex Dor Fal Gre Hul Jas Nor Pel Ras Sel Tol Und Wes Yar Zel")
TOWN_ENDS = _words("bury cester dalla fordine gate holm minster stead thorpe wick")

RIVER_STARTS = _words("Ar Bel Cal Dre El Fin Gal Har Is Kel Lo Mi Ner Or Pra Ser")
RIVER_ENDS = _words("dova meth nisse quen ralle")

MOUNTAIN_NAMES = _words(
    "Ashkar Borrund Cindral Dhaumal Eskavir Forlath Gormund Hraskeld Ivarok Jotterun Kharzan Lommerok Myrdahl Norgrim "
    "Olvasta Prakkur Skarvold Tromgar Uldrun Vashkold"
)

SEA_NAMES = _words("Aurelis Bystra Corvane Delmara Ephyra Glauce Halmyr Istria Lethara Okeana")

COMPANY_STARTS = _words(
    "Acorn Beacon Cobalt Dovetail Ember Falcon Granite Heron Indigo Juniper Kestrel Lantern Magpie Nightingale Otter "
    "Partridge Quartz Russet Saffron Thistle Umber Violet Walnut Xenon Yeoman Zephyr"
)
COMPANY_ENDS = ("Foundry", "Brothers", "Mills", "Cooperative", "Trading House")

PRODUCTS = _phrases(
    "copper kettles, wool blankets, glass lamps, oak barrels, brass clocks, paper kites, linen sails, clay pipes, "
    "silver buttons, leather saddles, cast bells, printed maps, ship ropes, honey cakes, beeswax candles, iron stoves, "
    "painted tiles, fishing nets, music boxes, walking sticks"
)

BOOK_STARTS = _words(
    "Silent Crooked Golden Hidden Winter Broken Paper Burning Distant Sleeping Hollow Velvet Wandering Forgotten "
    "Crimson Patient Borrowed Drowned Restless Quiet"
)
BOOK_ENDS = _words("Orchard Lighthouse Staircase Carousel Almanac Garden Ferry Compass Mirror Chapel Harvest Bridge")

PROFESSIONS = _phrases(
    "clockmaker, botanist, cartographer, shipwright, composer, astronomer, glassblower, historian, surgeon, weaver, "
    "engineer, translator"
)
HOBBIES = _phrases(
    "keeps bees, plays the cello, collects old coins, swims in cold lakes, breeds pigeons, carves chess pieces, "
    "restores bicycles, paints birds"
)
SIGHTS = _phrases(
    "a covered market, a leaning bell tower, an old salt store, a botanical garden, a stone theatre, a tram museum, "
    "a harbour fort, a house of mirrors"
)
WATERS = _phrases("trout, eels, water lilies, kingfishers, slow barges, steep gorges, otters, mill wheels")
SLOPES = _phrases("chamois, gentian, old mine shafts, a weather station, red sandstone, a hermit's hut, late snow")
COASTS = _phrases("amber, seals, white cliffs, shipwrecks, salt marshes, warm currents")
GENRES = _phrases("novel, book of poems, travel journal, detective story, family saga, stage play")
