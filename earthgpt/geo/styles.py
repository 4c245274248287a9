"""QGIS styles for layers of features, with the colours of the pictures."""

from __future__ import annotations

from itertools import islice
from xml.sax.saxutils import quoteattr

from PIL import ImageColor

from earthgpt.geo.layers import xml_text
from earthgpt.geo.pictures import COLOURS
from earthgpt.geo.placing import Layer

MOST_CLASSES = 256  # captions of tiles are each a class of their own; the others share a symbol


def qgis_style(layer: Layer) -> str:
    """A QGIS style (.qml, QGIS 3): a colour for each class, and class and score as label.

    QGIS takes it by itself for a layer of the same name in the same folder. What its elements mean
    is told by QGIS's own reader (``QgsCategorizedSymbolRenderer::create``, ``QgsPalLayerSettings::readXml``).
    """
    categories, symbols = [], []
    for label, i in islice(layer.labels.items(), MOST_CLASSES):
        said = quoteattr(xml_text(label))
        categories.append(f'<category symbol="{i}" value={said} label={said} render="true" type="string"/>')
        symbols.append(_symbol(str(i), COLOURS[i % len(COLOURS)]))
    # What comes later, and is too much, gets the last symbol: QGIS takes an empty value for "all others".
    categories.append(f'<category symbol="{len(symbols)}" value="" label="" render="true" type="string"/>')
    symbols.append(_symbol(str(len(symbols)), "#999999"))
    text = quoteattr("\"label\" || coalesce(' ' || format_number(\"score\", 2), '')")
    between = "\n   "
    return f"""<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>
<qgis version="3.22.0" styleCategories="Symbology|Labeling" labelsEnabled="1">
 <renderer-v2 type="categorizedSymbol" attr="label" enableorderby="0" forceraster="0" symbollevels="0">
  <categories>
   {between.join(categories)}
  </categories>
  <symbols>
   {between.join(symbols)}
  </symbols>
 </renderer-v2>
 <labeling type="simple">
  <settings calloutType="simple">
   <text-style fieldName={text} isExpression="1" fontSize="8" fontSizeUnit="Point" textColor="0,0,0,255">
    <text-buffer bufferDraw="1" bufferSize="0.8" bufferSizeUnits="MM" bufferColor="255,255,255,220"/>
   </text-style>
   <rendering scaleVisibility="0" displayAll="0" obstacle="1"/>
  </settings>
 </labeling>
</qgis>
"""


def _symbol(name: str, colour: str) -> str:
    red, green, blue = ImageColor.getrgb(colour)
    options = {
        "color": f"{red},{green},{blue},40",
        "outline_color": f"{red},{green},{blue},255",
        "outline_style": "solid",
        "outline_width": "0.5",
        "outline_width_unit": "MM",
        "style": "solid",
    }
    inner = "".join(f'<Option type="QString" name="{key}" value="{value}"/>' for key, value in options.items())
    return (
        f'<symbol type="fill" name="{name}" alpha="1" clip_to_extent="1" force_rhr="0">'
        '<layer class="SimpleFill" enabled="1" locked="0" pass="0">'
        f'<Option type="Map">{inner}</Option></layer></symbol>'
    )
