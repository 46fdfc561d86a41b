-- Bodies of the solar system: the Sun, the planets, the dwarf planets and likely
-- ones, all their named moons, and some that have a provisional designation only.
--
-- Sources
--   NASA/JPL Solar System Dynamics, ssd.jpl.nasa.gov: physical parameters of planets and satellites (mean
--   radii), discovery circumstances of satellites, mean orbital elements; E. M. Standish,
--   "Keplerian Elements for Approximate Positions of the Major Planets" (longitudes).
--   IAU/USGS Gazetteer of Planetary Nomenclature, planetarynames.wr.usgs.gov: names and discoverers.
--   Radii of dwarf planets, of likely ones and of the small moons of Pluto: occultations, New Horizons, ALMA.
--
-- Conventions
--   NULL is "not known well enough to say". The radii of small outer moons follow from
--   brightness and an assumed albedo. The year of an outer moon found since 1997 is
--   that of the images it was found in, which its designation carries (S/2004 S 20), not that of the announcement.
--   orbit_au, orbit_km: semi-major axis around the Sun, or around the parent (rounded to 100 km). longitude_deg: mean longitude
--   at J2000.0. A "candidate" is a likely dwarf planet that the IAU has not recognized as one.
CREATE TABLE bodies (
  id            TEXT PRIMARY KEY,
  name          TEXT NOT NULL,
  kind          TEXT NOT NULL CHECK (kind IN ('star', 'planet', 'dwarf planet', 'candidate', 'moon')),
  parent        TEXT REFERENCES bodies (id),
  radius_km     REAL,
  discoverer    TEXT,
  year          INTEGER,
  orbit_au      REAL,
  orbit_km      REAL,
  period_days   REAL,
  longitude_deg REAL
) STRICT, WITHOUT ROWID;

CREATE INDEX bodies_by_parent ON bodies (parent);

-- The Sun, what orbits it (22)
INSERT INTO bodies VALUES
  ('sun', 'Sun', 'star', NULL, 695700, NULL, NULL, NULL, NULL, NULL, NULL),
  ('mercury', 'Mercury', 'planet', 'sun', 2439.4, NULL, NULL, 0.38709927, NULL, 87.9691, 252.2503),
  ('venus', 'Venus', 'planet', 'sun', 6051.8, NULL, NULL, 0.72333566, NULL, 224.7008, 181.9791),
  ('earth', 'Earth', 'planet', 'sun', 6371, NULL, NULL, 1.00000261, NULL, 365.2564, 100.4646),
  ('mars', 'Mars', 'planet', 'sun', 3389.5, NULL, NULL, 1.52371034, NULL, 686.9796, 355.4466),
  ('jupiter', 'Jupiter', 'planet', 'sun', 69911, NULL, NULL, 5.202887, NULL, 4332.82, 34.3964),
  ('saturn', 'Saturn', 'planet', 'sun', 58232, NULL, NULL, 9.53667594, NULL, 10755.7, 49.9542),
  ('uranus', 'Uranus', 'planet', 'sun', 25362, 'W. Herschel', 1781, 19.18916464, NULL, 30687.15, 313.2381),
  ('neptune', 'Neptune', 'planet', 'sun', 24622, 'U. Le Verrier, J. G. Galle, J. C. Adams', 1846, 30.06992276, NULL, 60190.03, 304.88),
  ('ceres', 'Ceres', 'dwarf planet', 'sun', 469.7, 'G. Piazzi', 1801, 2.77, NULL, 1681.6, 160.9),
  ('pluto', 'Pluto', 'dwarf planet', 'sun', 1188.3, 'C. W. Tombaugh', 1930, 39.48211675, NULL, 90560, 238.929),
  ('haumea', 'Haumea', 'dwarf planet', 'sun', NULL, 'disputed: M. E. Brown et al., J. L. Ortiz et al.', NULL, 43.1, NULL, 103700, 192.8),
  ('makemake', 'Makemake', 'dwarf planet', 'sun', 715, 'M. E. Brown, C. A. Trujillo, D. L. Rabinowitz', 2005, 45.4, NULL, 111900, 156.2),
  ('eris', 'Eris', 'dwarf planet', 'sun', 1163, 'M. E. Brown, C. A. Trujillo, D. L. Rabinowitz', 2005, 67.9, NULL, 204000, 20.4),
  ('salacia', 'Salacia', 'candidate', 'sun', 423, 'H. G. Roe, M. E. Brown, K. M. Barkume', 2004, NULL, NULL, NULL, NULL),
  ('varda', 'Varda', 'candidate', 'sun', NULL, 'J. A. Larsen', 2003, NULL, NULL, NULL, NULL),
  ('quaoar', 'Quaoar', 'candidate', 'sun', 545, 'C. A. Trujillo, M. E. Brown', 2002, 43.7, NULL, 105500, 251.9),
  ('orcus', 'Orcus', 'candidate', 'sun', 455, 'M. E. Brown, C. A. Trujillo, D. L. Rabinowitz', 2004, 39.4, NULL, 90400, 133.1),
  ('gonggong', 'Gonggong', 'candidate', 'sun', 615, 'M. E. Schwamb, M. E. Brown, D. L. Rabinowitz', 2007, 67.5, NULL, 202500, 277.7),
  ('sedna', 'Sedna', 'candidate', 'sun', 498, 'M. E. Brown, C. A. Trujillo, D. L. Rabinowitz', 2003, NULL, NULL, NULL, NULL),
  ('varuna', 'Varuna', 'candidate', 'sun', NULL, 'R. S. McMillan', 2000, NULL, NULL, NULL, NULL),
  ('ixion', 'Ixion', 'candidate', 'sun', NULL, 'Deep Ecliptic Survey', 2001, NULL, NULL, NULL, NULL);

-- Moons of Earth (1)
INSERT INTO bodies VALUES
  ('moon', 'Moon', 'moon', 'earth', 1737.4, NULL, NULL, NULL, 384400, 27.322, NULL);

-- Moons of Mars (2)
INSERT INTO bodies VALUES
  ('phobos', 'Phobos', 'moon', 'mars', 11.1, 'A. Hall', 1877, NULL, 9376, 0.319, NULL),
  ('deimos', 'Deimos', 'moon', 'mars', 6.2, 'A. Hall', 1877, NULL, 23458, 1.263, NULL);

-- Moons of Jupiter (79)
INSERT INTO bodies VALUES
  ('io', 'Io', 'moon', 'jupiter', 1821.6, 'Galileo Galilei', 1610, NULL, 421800, 1.769, NULL),
  ('europa', 'Europa', 'moon', 'jupiter', 1560.8, 'Galileo Galilei', 1610, NULL, 671100, 3.551, NULL),
  ('ganymede', 'Ganymede', 'moon', 'jupiter', 2631.2, 'Galileo Galilei', 1610, NULL, 1070400, 7.155, NULL),
  ('callisto', 'Callisto', 'moon', 'jupiter', 2410.3, 'Galileo Galilei', 1610, NULL, 1882700, 16.689, NULL),
  ('amalthea', 'Amalthea', 'moon', 'jupiter', 83.5, 'E. E. Barnard', 1892, NULL, 181400, 0.498, NULL),
  ('himalia', 'Himalia', 'moon', 'jupiter', 85, 'C. D. Perrine', 1904, NULL, NULL, NULL, NULL),
  ('elara', 'Elara', 'moon', 'jupiter', 43, 'C. D. Perrine', 1905, NULL, NULL, NULL, NULL),
  ('pasiphae', 'Pasiphae', 'moon', 'jupiter', 30, 'P. J. Melotte', 1908, NULL, NULL, NULL, NULL),
  ('sinope', 'Sinope', 'moon', 'jupiter', 19, 'S. B. Nicholson', 1914, NULL, NULL, NULL, NULL),
  ('lysithea', 'Lysithea', 'moon', 'jupiter', 18, 'S. B. Nicholson', 1938, NULL, NULL, NULL, NULL),
  ('carme', 'Carme', 'moon', 'jupiter', 23, 'S. B. Nicholson', 1938, NULL, NULL, NULL, NULL),
  ('ananke', 'Ananke', 'moon', 'jupiter', 14, 'S. B. Nicholson', 1951, NULL, NULL, NULL, NULL),
  ('leda', 'Leda', 'moon', 'jupiter', 10, 'C. T. Kowal', 1974, NULL, NULL, NULL, NULL),
  ('themisto', 'Themisto', 'moon', 'jupiter', 4, 'C. T. Kowal, E. Roemer', 1975, NULL, NULL, NULL, NULL),
  ('adrastea', 'Adrastea', 'moon', 'jupiter', 8.2, 'D. C. Jewitt, G. E. Danielson', 1979, NULL, 129000, 0.298, NULL),
  ('thebe', 'Thebe', 'moon', 'jupiter', 49.3, 'S. P. Synnott', 1979, NULL, 221900, 0.675, NULL),
  ('metis', 'Metis', 'moon', 'jupiter', 21.5, 'S. P. Synnott', 1979, NULL, 128000, 0.295, NULL),
  ('callirrhoe', 'Callirrhoe', 'moon', 'jupiter', 4.3, 'Spacewatch', 1999, NULL, NULL, NULL, NULL),
  ('megaclite', 'Megaclite', 'moon', 'jupiter', 2.7, 'S. S. Sheppard, D. C. Jewitt, Y. R. Fernández, E. A. Magnier', 2000, NULL, NULL, NULL, NULL),
  ('taygete', 'Taygete', 'moon', 'jupiter', 2.5, 'S. S. Sheppard, D. C. Jewitt, Y. R. Fernández, E. A. Magnier', 2000, NULL, NULL, NULL, NULL),
  ('chaldene', 'Chaldene', 'moon', 'jupiter', 1.9, 'S. S. Sheppard, D. C. Jewitt, Y. R. Fernández, E. A. Magnier', 2000, NULL, NULL, NULL, NULL),
  ('harpalyke', 'Harpalyke', 'moon', 'jupiter', 2.2, 'S. S. Sheppard, D. C. Jewitt, Y. R. Fernández, E. A. Magnier', 2000, NULL, NULL, NULL, NULL),
  ('kalyke', 'Kalyke', 'moon', 'jupiter', 2.6, 'S. S. Sheppard, D. C. Jewitt, Y. R. Fernández, E. A. Magnier', 2000, NULL, NULL, NULL, NULL),
  ('iocaste', 'Iocaste', 'moon', 'jupiter', 2.6, 'S. S. Sheppard, D. C. Jewitt, Y. R. Fernández, E. A. Magnier', 2000, NULL, NULL, NULL, NULL),
  ('erinome', 'Erinome', 'moon', 'jupiter', 1.6, 'S. S. Sheppard, D. C. Jewitt, Y. R. Fernández, E. A. Magnier', 2000, NULL, NULL, NULL, NULL),
  ('isonoe', 'Isonoe', 'moon', 'jupiter', 1.9, 'S. S. Sheppard, D. C. Jewitt, Y. R. Fernández, E. A. Magnier', 2000, NULL, NULL, NULL, NULL),
  ('praxidike', 'Praxidike', 'moon', 'jupiter', 3.4, 'S. S. Sheppard, D. C. Jewitt, Y. R. Fernández, E. A. Magnier', 2000, NULL, NULL, NULL, NULL),
  ('dia', 'Dia', 'moon', 'jupiter', 1, 'S. S. Sheppard, D. C. Jewitt, Y. R. Fernández, E. A. Magnier', 2000, NULL, NULL, NULL, NULL),
  ('autonoe', 'Autonoe', 'moon', 'jupiter', 2, 'S. S. Sheppard, D. C. Jewitt, J. T. Kleyna', 2001, NULL, NULL, NULL, NULL),
  ('thyone', 'Thyone', 'moon', 'jupiter', 2, 'S. S. Sheppard, D. C. Jewitt, J. T. Kleyna', 2001, NULL, NULL, NULL, NULL),
  ('hermippe', 'Hermippe', 'moon', 'jupiter', 2, 'S. S. Sheppard, D. C. Jewitt, J. T. Kleyna', 2001, NULL, NULL, NULL, NULL),
  ('aitne', 'Aitne', 'moon', 'jupiter', 1.5, 'S. S. Sheppard, D. C. Jewitt, J. T. Kleyna', 2001, NULL, NULL, NULL, NULL),
  ('eurydome', 'Eurydome', 'moon', 'jupiter', 1.5, 'S. S. Sheppard, D. C. Jewitt, J. T. Kleyna', 2001, NULL, NULL, NULL, NULL),
  ('euanthe', 'Euanthe', 'moon', 'jupiter', 1.5, 'S. S. Sheppard, D. C. Jewitt, J. T. Kleyna', 2001, NULL, NULL, NULL, NULL),
  ('euporie', 'Euporie', 'moon', 'jupiter', 1, 'S. S. Sheppard, D. C. Jewitt, J. T. Kleyna', 2001, NULL, NULL, NULL, NULL),
  ('orthosie', 'Orthosie', 'moon', 'jupiter', 1, 'S. S. Sheppard, D. C. Jewitt, J. T. Kleyna', 2001, NULL, NULL, NULL, NULL),
  ('sponde', 'Sponde', 'moon', 'jupiter', 1, 'S. S. Sheppard, D. C. Jewitt, J. T. Kleyna', 2001, NULL, NULL, NULL, NULL),
  ('kale', 'Kale', 'moon', 'jupiter', 1, 'S. S. Sheppard, D. C. Jewitt, J. T. Kleyna', 2001, NULL, NULL, NULL, NULL),
  ('pasithee', 'Pasithee', 'moon', 'jupiter', 1, 'S. S. Sheppard, D. C. Jewitt, J. T. Kleyna', 2001, NULL, NULL, NULL, NULL),
  ('arche', 'Arche', 'moon', 'jupiter', 1.5, 'S. S. Sheppard et al.', 2002, NULL, NULL, NULL, NULL),
  ('eukelade', 'Eukelade', 'moon', 'jupiter', 2, 'S. S. Sheppard et al.', 2003, NULL, NULL, NULL, NULL),
  ('hegemone', 'Hegemone', 'moon', 'jupiter', 1.5, 'S. S. Sheppard et al.', 2003, NULL, NULL, NULL, NULL),
  ('helike', 'Helike', 'moon', 'jupiter', 2, 'S. S. Sheppard et al.', 2003, NULL, NULL, NULL, NULL),
  ('aoede', 'Aoede', 'moon', 'jupiter', 2, 'S. S. Sheppard et al.', 2003, NULL, NULL, NULL, NULL),
  ('kallichore', 'Kallichore', 'moon', 'jupiter', 1, 'S. S. Sheppard et al.', 2003, NULL, NULL, NULL, NULL),
  ('cyllene', 'Cyllene', 'moon', 'jupiter', 1, 'S. S. Sheppard et al.', 2003, NULL, NULL, NULL, NULL),
  ('kore', 'Kore', 'moon', 'jupiter', 1, 'S. S. Sheppard et al.', 2003, NULL, NULL, NULL, NULL),
  ('carpo', 'Carpo', 'moon', 'jupiter', 1.5, 'S. S. Sheppard et al.', 2003, NULL, NULL, NULL, NULL),
  ('eupheme', 'Eupheme', 'moon', 'jupiter', 1, 'S. S. Sheppard et al.', 2003, NULL, NULL, NULL, NULL),
  ('eirene', 'Eirene', 'moon', 'jupiter', 2, 'S. S. Sheppard et al.', 2003, NULL, NULL, NULL, NULL),
  ('philophrosyne', 'Philophrosyne', 'moon', 'jupiter', 1, 'S. S. Sheppard et al.', 2003, NULL, NULL, NULL, NULL),
  ('herse', 'Herse', 'moon', 'jupiter', 1, 'B. J. Gladman et al.', 2003, NULL, NULL, NULL, NULL),
  ('mneme', 'Mneme', 'moon', 'jupiter', 1, 'B. J. Gladman et al.', 2003, NULL, NULL, NULL, NULL),
  ('thelxinoe', 'Thelxinoe', 'moon', 'jupiter', 1, 'S. S. Sheppard, B. J. Gladman et al.', 2003, NULL, NULL, NULL, NULL),
  ('valetudo', 'Valetudo', 'moon', 'jupiter', NULL, 'S. S. Sheppard et al.', 2016, NULL, NULL, NULL, NULL),
  ('pandia', 'Pandia', 'moon', 'jupiter', NULL, 'S. S. Sheppard et al.', 2017, NULL, NULL, NULL, NULL),
  ('ersa', 'Ersa', 'moon', 'jupiter', NULL, 'S. S. Sheppard et al.', 2018, NULL, NULL, NULL, NULL),
  ('s-2003-j-2', 'S/2003 J 2', 'moon', 'jupiter', 1, 'S. S. Sheppard et al.', 2003, NULL, NULL, NULL, NULL),
  ('s-2003-j-4', 'S/2003 J 4', 'moon', 'jupiter', 1, 'S. S. Sheppard et al.', 2003, NULL, NULL, NULL, NULL),
  ('s-2003-j-9', 'S/2003 J 9', 'moon', 'jupiter', 0.5, 'S. S. Sheppard et al.', 2003, NULL, NULL, NULL, NULL),
  ('s-2003-j-10', 'S/2003 J 10', 'moon', 'jupiter', 1, 'S. S. Sheppard et al.', 2003, NULL, NULL, NULL, NULL),
  ('s-2003-j-12', 'S/2003 J 12', 'moon', 'jupiter', 0.5, 'S. S. Sheppard et al.', 2003, NULL, NULL, NULL, NULL),
  ('s-2003-j-19', 'S/2003 J 19', 'moon', 'jupiter', 1, 'S. S. Sheppard et al.', 2003, NULL, NULL, NULL, NULL),
  ('s-2003-j-23', 'S/2003 J 23', 'moon', 'jupiter', 1, 'S. S. Sheppard et al.', 2003, NULL, NULL, NULL, NULL),
  ('s-2003-j-16', 'S/2003 J 16', 'moon', 'jupiter', 1, 'B. J. Gladman et al.', 2003, NULL, NULL, NULL, NULL),
  ('s-2003-j-18', 'S/2003 J 18', 'moon', 'jupiter', 1, 'B. J. Gladman et al.', 2003, NULL, NULL, NULL, NULL),
  ('s-2010-j-1', 'S/2010 J 1', 'moon', 'jupiter', 1, 'R. A. Jacobson et al.', 2010, NULL, NULL, NULL, NULL),
  ('s-2010-j-2', 'S/2010 J 2', 'moon', 'jupiter', 1, 'C. Veillet', 2010, NULL, NULL, NULL, NULL),
  ('s-2011-j-1', 'S/2011 J 1', 'moon', 'jupiter', 1, 'S. S. Sheppard et al.', 2011, NULL, NULL, NULL, NULL),
  ('s-2011-j-2', 'S/2011 J 2', 'moon', 'jupiter', 1, 'S. S. Sheppard et al.', 2011, NULL, NULL, NULL, NULL),
  ('s-2016-j-1', 'S/2016 J 1', 'moon', 'jupiter', NULL, 'S. S. Sheppard et al.', 2016, NULL, NULL, NULL, NULL),
  ('s-2017-j-1', 'S/2017 J 1', 'moon', 'jupiter', NULL, 'S. S. Sheppard et al.', 2017, NULL, NULL, NULL, NULL),
  ('s-2017-j-2', 'S/2017 J 2', 'moon', 'jupiter', NULL, 'S. S. Sheppard et al.', 2017, NULL, NULL, NULL, NULL),
  ('s-2017-j-3', 'S/2017 J 3', 'moon', 'jupiter', NULL, 'S. S. Sheppard et al.', 2017, NULL, NULL, NULL, NULL),
  ('s-2017-j-5', 'S/2017 J 5', 'moon', 'jupiter', NULL, 'S. S. Sheppard et al.', 2017, NULL, NULL, NULL, NULL),
  ('s-2017-j-6', 'S/2017 J 6', 'moon', 'jupiter', NULL, 'S. S. Sheppard et al.', 2017, NULL, NULL, NULL, NULL),
  ('s-2017-j-7', 'S/2017 J 7', 'moon', 'jupiter', NULL, 'S. S. Sheppard et al.', 2017, NULL, NULL, NULL, NULL),
  ('s-2017-j-8', 'S/2017 J 8', 'moon', 'jupiter', NULL, 'S. S. Sheppard et al.', 2017, NULL, NULL, NULL, NULL),
  ('s-2017-j-9', 'S/2017 J 9', 'moon', 'jupiter', NULL, 'S. S. Sheppard et al.', 2017, NULL, NULL, NULL, NULL);

-- Moons of Saturn (63)
INSERT INTO bodies VALUES
  ('titan', 'Titan', 'moon', 'saturn', 2574.7, 'C. Huygens', 1655, NULL, 1221900, 15.945, NULL),
  ('iapetus', 'Iapetus', 'moon', 'saturn', 735.6, 'G. D. Cassini', 1671, NULL, 3560800, 79.33, NULL),
  ('rhea', 'Rhea', 'moon', 'saturn', 764.3, 'G. D. Cassini', 1672, NULL, 527100, 4.518, NULL),
  ('tethys', 'Tethys', 'moon', 'saturn', 533, 'G. D. Cassini', 1684, NULL, 294700, 1.888, NULL),
  ('dione', 'Dione', 'moon', 'saturn', 561.7, 'G. D. Cassini', 1684, NULL, 377400, 2.737, NULL),
  ('mimas', 'Mimas', 'moon', 'saturn', 198.2, 'W. Herschel', 1789, NULL, 185500, 0.942, NULL),
  ('enceladus', 'Enceladus', 'moon', 'saturn', 252.1, 'W. Herschel', 1789, NULL, 238000, 1.370, NULL),
  ('hyperion', 'Hyperion', 'moon', 'saturn', 135, 'W. C. Bond, G. P. Bond, W. Lassell', 1848, NULL, 1481000, 21.277, NULL),
  ('phoebe', 'Phoebe', 'moon', 'saturn', 106.5, 'W. H. Pickering', 1899, NULL, 12952000, 550.5, NULL),
  ('janus', 'Janus', 'moon', 'saturn', 89.5, 'A. Dollfus', 1966, NULL, 151500, 0.695, NULL),
  ('epimetheus', 'Epimetheus', 'moon', 'saturn', 58.1, 'R. L. Walker', 1966, NULL, 151400, 0.694, NULL),
  ('helene', 'Helene', 'moon', 'saturn', 17.6, 'P. Laques, J. Lecacheux', 1980, NULL, 377400, 2.737, NULL),
  ('telesto', 'Telesto', 'moon', 'saturn', 12.4, 'B. A. Smith, H. J. Reitsema, S. M. Larson, J. W. Fountain', 1980, NULL, 294700, 1.888, NULL),
  ('calypso', 'Calypso', 'moon', 'saturn', 10.7, 'D. Pascu, P. K. Seidelmann, W. A. Baum, D. G. Currie', 1980, NULL, 294700, 1.888, NULL),
  ('atlas', 'Atlas', 'moon', 'saturn', 15.1, 'R. J. Terrile', 1980, NULL, 137700, 0.602, NULL),
  ('prometheus', 'Prometheus', 'moon', 'saturn', 43.1, 'S. A. Collins et al.', 1980, NULL, 139400, 0.613, NULL),
  ('pandora', 'Pandora', 'moon', 'saturn', 40.7, 'S. A. Collins et al.', 1980, NULL, 141700, 0.629, NULL),
  ('pan', 'Pan', 'moon', 'saturn', 14.1, 'M. R. Showalter', 1990, NULL, 133600, 0.575, NULL),
  ('ymir', 'Ymir', 'moon', 'saturn', 9, 'B. J. Gladman et al.', 2000, NULL, NULL, NULL, NULL),
  ('paaliaq', 'Paaliaq', 'moon', 'saturn', 11, 'B. J. Gladman et al.', 2000, NULL, NULL, NULL, NULL),
  ('tarvos', 'Tarvos', 'moon', 'saturn', 7.5, 'B. J. Gladman et al.', 2000, NULL, NULL, NULL, NULL),
  ('ijiraq', 'Ijiraq', 'moon', 'saturn', 6, 'B. J. Gladman et al.', 2000, NULL, NULL, NULL, NULL),
  ('suttungr', 'Suttungr', 'moon', 'saturn', 3.5, 'B. J. Gladman et al.', 2000, NULL, NULL, NULL, NULL),
  ('kiviuq', 'Kiviuq', 'moon', 'saturn', 8, 'B. J. Gladman et al.', 2000, NULL, NULL, NULL, NULL),
  ('mundilfari', 'Mundilfari', 'moon', 'saturn', 3.5, 'B. J. Gladman et al.', 2000, NULL, NULL, NULL, NULL),
  ('skathi', 'Skathi', 'moon', 'saturn', 4, 'B. J. Gladman et al.', 2000, NULL, NULL, NULL, NULL),
  ('erriapus', 'Erriapus', 'moon', 'saturn', 5, 'B. J. Gladman et al.', 2000, NULL, NULL, NULL, NULL),
  ('siarnaq', 'Siarnaq', 'moon', 'saturn', 20, 'B. J. Gladman et al.', 2000, NULL, NULL, NULL, NULL),
  ('thrymr', 'Thrymr', 'moon', 'saturn', 3.5, 'B. J. Gladman et al.', 2000, NULL, NULL, NULL, NULL),
  ('albiorix', 'Albiorix', 'moon', 'saturn', 16, 'M. J. Holman, T. B. Spahr', 2000, NULL, NULL, NULL, NULL),
  ('narvi', 'Narvi', 'moon', 'saturn', 3.5, 'S. S. Sheppard et al.', 2003, NULL, NULL, NULL, NULL),
  ('methone', 'Methone', 'moon', 'saturn', 1.6, 'Cassini imaging team', 2004, NULL, 194400, 1.010, NULL),
  ('pallene', 'Pallene', 'moon', 'saturn', 2.5, 'Cassini imaging team', 2004, NULL, 212300, 1.154, NULL),
  ('polydeuces', 'Polydeuces', 'moon', 'saturn', 1.3, 'Cassini imaging team', 2004, NULL, 377200, 2.737, NULL),
  ('daphnis', 'Daphnis', 'moon', 'saturn', 3.8, 'Cassini imaging team', 2005, NULL, 136500, 0.594, NULL),
  ('anthe', 'Anthe', 'moon', 'saturn', 0.9, 'Cassini imaging team', 2007, NULL, 197700, 1.037, NULL),
  ('aegaeon', 'Aegaeon', 'moon', 'saturn', 0.3, 'Cassini imaging team', 2008, NULL, 167500, 0.808, NULL),
  ('aegir', 'Aegir', 'moon', 'saturn', 3, 'S. S. Sheppard, D. C. Jewitt, J. T. Kleyna', 2004, NULL, NULL, NULL, NULL),
  ('bebhionn', 'Bebhionn', 'moon', 'saturn', 3, 'S. S. Sheppard, D. C. Jewitt, J. T. Kleyna', 2004, NULL, NULL, NULL, NULL),
  ('bergelmir', 'Bergelmir', 'moon', 'saturn', 3, 'S. S. Sheppard, D. C. Jewitt, J. T. Kleyna', 2004, NULL, NULL, NULL, NULL),
  ('bestla', 'Bestla', 'moon', 'saturn', 3.5, 'S. S. Sheppard, D. C. Jewitt, J. T. Kleyna', 2004, NULL, NULL, NULL, NULL),
  ('farbauti', 'Farbauti', 'moon', 'saturn', 2.5, 'S. S. Sheppard, D. C. Jewitt, J. T. Kleyna', 2004, NULL, NULL, NULL, NULL),
  ('fenrir', 'Fenrir', 'moon', 'saturn', 2, 'S. S. Sheppard, D. C. Jewitt, J. T. Kleyna', 2004, NULL, NULL, NULL, NULL),
  ('fornjot', 'Fornjot', 'moon', 'saturn', 3, 'S. S. Sheppard, D. C. Jewitt, J. T. Kleyna', 2004, NULL, NULL, NULL, NULL),
  ('hati', 'Hati', 'moon', 'saturn', 3, 'S. S. Sheppard, D. C. Jewitt, J. T. Kleyna', 2004, NULL, NULL, NULL, NULL),
  ('hyrrokkin', 'Hyrrokkin', 'moon', 'saturn', 3, 'S. S. Sheppard, D. C. Jewitt, J. T. Kleyna', 2004, NULL, NULL, NULL, NULL),
  ('kari', 'Kari', 'moon', 'saturn', 3, 'S. S. Sheppard, D. C. Jewitt, J. T. Kleyna', 2006, NULL, NULL, NULL, NULL),
  ('loge', 'Loge', 'moon', 'saturn', 3, 'S. S. Sheppard, D. C. Jewitt, J. T. Kleyna', 2006, NULL, NULL, NULL, NULL),
  ('skoll', 'Skoll', 'moon', 'saturn', 3, 'S. S. Sheppard, D. C. Jewitt, J. T. Kleyna', 2006, NULL, NULL, NULL, NULL),
  ('surtur', 'Surtur', 'moon', 'saturn', 3, 'S. S. Sheppard, D. C. Jewitt, J. T. Kleyna', 2006, NULL, NULL, NULL, NULL),
  ('jarnsaxa', 'Jarnsaxa', 'moon', 'saturn', 3, 'S. S. Sheppard, D. C. Jewitt, J. T. Kleyna', 2006, NULL, NULL, NULL, NULL),
  ('greip', 'Greip', 'moon', 'saturn', 3, 'S. S. Sheppard, D. C. Jewitt, J. T. Kleyna', 2006, NULL, NULL, NULL, NULL),
  ('tarqeq', 'Tarqeq', 'moon', 'saturn', 3, 'S. S. Sheppard, D. C. Jewitt, J. T. Kleyna', 2007, NULL, NULL, NULL, NULL),
  ('gridr', 'Gridr', 'moon', 'saturn', NULL, 'S. S. Sheppard, D. C. Jewitt, J. T. Kleyna', 2004, NULL, NULL, NULL, NULL),
  ('angrboda', 'Angrboda', 'moon', 'saturn', NULL, 'S. S. Sheppard, D. C. Jewitt, J. T. Kleyna', 2004, NULL, NULL, NULL, NULL),
  ('skrymir', 'Skrymir', 'moon', 'saturn', NULL, 'S. S. Sheppard, D. C. Jewitt, J. T. Kleyna', 2004, NULL, NULL, NULL, NULL),
  ('gerd', 'Gerd', 'moon', 'saturn', NULL, 'S. S. Sheppard, D. C. Jewitt, J. T. Kleyna', 2004, NULL, NULL, NULL, NULL),
  ('eggther', 'Eggther', 'moon', 'saturn', NULL, 'S. S. Sheppard, D. C. Jewitt, J. T. Kleyna', 2004, NULL, NULL, NULL, NULL),
  ('beli', 'Beli', 'moon', 'saturn', NULL, 'S. S. Sheppard, D. C. Jewitt, J. T. Kleyna', 2004, NULL, NULL, NULL, NULL),
  ('gunnlod', 'Gunnlod', 'moon', 'saturn', NULL, 'S. S. Sheppard, D. C. Jewitt, J. T. Kleyna', 2004, NULL, NULL, NULL, NULL),
  ('thiazzi', 'Thiazzi', 'moon', 'saturn', NULL, 'S. S. Sheppard, D. C. Jewitt, J. T. Kleyna', 2004, NULL, NULL, NULL, NULL),
  ('alvaldi', 'Alvaldi', 'moon', 'saturn', NULL, 'S. S. Sheppard, D. C. Jewitt, J. T. Kleyna', 2004, NULL, NULL, NULL, NULL),
  ('geirrod', 'Geirrod', 'moon', 'saturn', NULL, 'S. S. Sheppard, D. C. Jewitt, J. T. Kleyna', 2004, NULL, NULL, NULL, NULL);

-- Moons of Uranus (28)
INSERT INTO bodies VALUES
  ('titania', 'Titania', 'moon', 'uranus', 788.9, 'W. Herschel', 1787, NULL, 436300, 8.706, NULL),
  ('oberon', 'Oberon', 'moon', 'uranus', 761.4, 'W. Herschel', 1787, NULL, 583500, 13.463, NULL),
  ('ariel', 'Ariel', 'moon', 'uranus', 578.9, 'W. Lassell', 1851, NULL, 190900, 2.520, NULL),
  ('umbriel', 'Umbriel', 'moon', 'uranus', 584.7, 'W. Lassell', 1851, NULL, 266000, 4.144, NULL),
  ('miranda', 'Miranda', 'moon', 'uranus', 235.8, 'G. P. Kuiper', 1948, NULL, 129900, 1.413, NULL),
  ('puck', 'Puck', 'moon', 'uranus', 81, 'Voyager 2 imaging team', 1985, NULL, 86000, 0.762, NULL),
  ('cordelia', 'Cordelia', 'moon', 'uranus', 20.1, 'Voyager 2 imaging team', 1986, NULL, 49800, 0.335, NULL),
  ('ophelia', 'Ophelia', 'moon', 'uranus', 21.4, 'Voyager 2 imaging team', 1986, NULL, 53800, 0.376, NULL),
  ('bianca', 'Bianca', 'moon', 'uranus', 27, 'Voyager 2 imaging team', 1986, NULL, 59200, 0.435, NULL),
  ('cressida', 'Cressida', 'moon', 'uranus', 41, 'Voyager 2 imaging team', 1986, NULL, 61800, 0.464, NULL),
  ('desdemona', 'Desdemona', 'moon', 'uranus', 35, 'Voyager 2 imaging team', 1986, NULL, 62700, 0.474, NULL),
  ('juliet', 'Juliet', 'moon', 'uranus', 53, 'Voyager 2 imaging team', 1986, NULL, 64400, 0.493, NULL),
  ('portia', 'Portia', 'moon', 'uranus', 70, 'Voyager 2 imaging team', 1986, NULL, 66100, 0.513, NULL),
  ('rosalind', 'Rosalind', 'moon', 'uranus', 36, 'Voyager 2 imaging team', 1986, NULL, 69900, 0.558, NULL),
  ('belinda', 'Belinda', 'moon', 'uranus', 45, 'Voyager 2 imaging team', 1986, NULL, 75300, 0.624, NULL),
  ('caliban', 'Caliban', 'moon', 'uranus', 36, 'B. J. Gladman, P. D. Nicholson, J. A. Burns, J. J. Kavelaars', 1997, NULL, NULL, NULL, NULL),
  ('sycorax', 'Sycorax', 'moon', 'uranus', 75, 'B. J. Gladman, P. D. Nicholson, J. A. Burns, J. J. Kavelaars', 1997, NULL, NULL, NULL, NULL),
  ('prospero', 'Prospero', 'moon', 'uranus', 25, 'M. J. Holman et al.', 1999, NULL, NULL, NULL, NULL),
  ('setebos', 'Setebos', 'moon', 'uranus', 24, 'J. J. Kavelaars et al.', 1999, NULL, NULL, NULL, NULL),
  ('stephano', 'Stephano', 'moon', 'uranus', 16, 'B. J. Gladman et al.', 1999, NULL, NULL, NULL, NULL),
  ('perdita', 'Perdita', 'moon', 'uranus', 13, 'E. Karkoschka', 1999, NULL, 76400, 0.638, NULL),
  ('trinculo', 'Trinculo', 'moon', 'uranus', 9, 'M. J. Holman et al.', 2001, NULL, NULL, NULL, NULL),
  ('francisco', 'Francisco', 'moon', 'uranus', 11, 'M. J. Holman et al.', 2001, NULL, NULL, NULL, NULL),
  ('ferdinand', 'Ferdinand', 'moon', 'uranus', 10, 'M. J. Holman et al.', 2001, NULL, NULL, NULL, NULL),
  ('margaret', 'Margaret', 'moon', 'uranus', 10, 'S. S. Sheppard, D. C. Jewitt', 2003, NULL, NULL, NULL, NULL),
  ('mab', 'Mab', 'moon', 'uranus', 12, 'M. R. Showalter, J. J. Lissauer', 2003, NULL, 97700, 0.923, NULL),
  ('cupid', 'Cupid', 'moon', 'uranus', 9, 'M. R. Showalter, J. J. Lissauer', 2003, NULL, 74400, 0.613, NULL),
  ('s-2023-u-1', 'S/2023 U 1', 'moon', 'uranus', NULL, 'S. S. Sheppard et al.', 2023, NULL, NULL, NULL, NULL);

-- Moons of Neptune (15)
INSERT INTO bodies VALUES
  ('triton', 'Triton', 'moon', 'neptune', 1353.4, 'W. Lassell', 1846, NULL, 354800, 5.877, NULL),
  ('nereid', 'Nereid', 'moon', 'neptune', 170, 'G. P. Kuiper', 1949, NULL, 5513800, 360.13, NULL),
  ('larissa', 'Larissa', 'moon', 'neptune', 97, 'H. J. Reitsema, W. B. Hubbard, L. A. Lebofsky, D. J. Tholen', 1981, NULL, 73500, 0.555, NULL),
  ('naiad', 'Naiad', 'moon', 'neptune', 33, 'Voyager 2 imaging team', 1989, NULL, 48200, 0.294, NULL),
  ('thalassa', 'Thalassa', 'moon', 'neptune', 41, 'Voyager 2 imaging team', 1989, NULL, 50100, 0.311, NULL),
  ('despina', 'Despina', 'moon', 'neptune', 75, 'Voyager 2 imaging team', 1989, NULL, 52500, 0.335, NULL),
  ('galatea', 'Galatea', 'moon', 'neptune', 88, 'Voyager 2 imaging team', 1989, NULL, 62000, 0.429, NULL),
  ('proteus', 'Proteus', 'moon', 'neptune', 210, 'Voyager 2 imaging team', 1989, NULL, 117600, 1.122, NULL),
  ('halimede', 'Halimede', 'moon', 'neptune', 31, 'M. J. Holman et al.', 2002, NULL, NULL, NULL, NULL),
  ('sao', 'Sao', 'moon', 'neptune', 22, 'M. J. Holman et al.', 2002, NULL, NULL, NULL, NULL),
  ('laomedeia', 'Laomedeia', 'moon', 'neptune', 21, 'M. J. Holman et al.', 2002, NULL, NULL, NULL, NULL),
  ('neso', 'Neso', 'moon', 'neptune', 30, 'M. J. Holman et al.', 2002, NULL, NULL, NULL, NULL),
  ('psamathe', 'Psamathe', 'moon', 'neptune', 20, 'D. C. Jewitt, J. T. Kleyna, S. S. Sheppard', 2003, NULL, NULL, NULL, NULL),
  ('hippocamp', 'Hippocamp', 'moon', 'neptune', 17.4, 'M. R. Showalter et al.', 2013, NULL, 105300, 0.950, NULL),
  ('s-2021-n-1', 'S/2021 N 1', 'moon', 'neptune', NULL, 'S. S. Sheppard et al.', 2021, NULL, NULL, NULL, NULL);

-- Moons of Pluto (5)
INSERT INTO bodies VALUES
  ('charon', 'Charon', 'moon', 'pluto', 606, 'J. W. Christy', 1978, NULL, 19600, 6.387, NULL),
  ('nix', 'Nix', 'moon', 'pluto', 18, 'H. A. Weaver, S. A. Stern et al.', 2005, NULL, 48700, 24.85, NULL),
  ('hydra', 'Hydra', 'moon', 'pluto', 18, 'H. A. Weaver, S. A. Stern et al.', 2005, NULL, 64700, 38.20, NULL),
  ('kerberos', 'Kerberos', 'moon', 'pluto', 6, 'M. R. Showalter et al.', 2011, NULL, 57800, 32.17, NULL),
  ('styx', 'Styx', 'moon', 'pluto', 5, 'M. R. Showalter et al.', 2012, NULL, 42700, 20.16, NULL);

-- Moons of Haumea (2)
INSERT INTO bodies VALUES
  ('hiiaka', 'Hiʻiaka', 'moon', 'haumea', NULL, 'M. E. Brown et al.', 2005, NULL, 49900, 49.46, NULL),
  ('namaka', 'Namaka', 'moon', 'haumea', NULL, 'M. E. Brown et al.', 2005, NULL, 25700, 18.28, NULL);

-- Moons of Eris (1)
INSERT INTO bodies VALUES
  ('dysnomia', 'Dysnomia', 'moon', 'eris', 308, 'M. E. Brown et al.', 2005, NULL, 37300, 15.79, NULL);

-- Moons of Makemake (1)
INSERT INTO bodies VALUES
  ('s-2015-136472-1', 'S/2015 (136472) 1', 'moon', 'makemake', NULL, 'A. H. Parker et al.', 2015, NULL, NULL, NULL, NULL);

-- Moons of Quaoar (1)
INSERT INTO bodies VALUES
  ('weywot', 'Weywot', 'moon', 'quaoar', NULL, 'M. E. Brown, T.-A. Suer', 2006, NULL, NULL, NULL, NULL);

-- Moons of Orcus (1)
INSERT INTO bodies VALUES
  ('vanth', 'Vanth', 'moon', 'orcus', 221, 'M. E. Brown, T.-A. Suer', 2005, NULL, 9000, 9.54, NULL);

-- Moons of Gonggong (1)
INSERT INTO bodies VALUES
  ('xiangliu', 'Xiangliu', 'moon', 'gonggong', NULL, 'C. Kiss et al.', 2016, NULL, NULL, NULL, NULL);

-- Moons of Salacia (1)
INSERT INTO bodies VALUES
  ('actaea', 'Actaea', 'moon', 'salacia', NULL, 'K. S. Noll et al.', 2006, NULL, NULL, NULL, NULL);

-- Moons of Varda (1)
INSERT INTO bodies VALUES
  ('ilmare', 'Ilmarë', 'moon', 'varda', NULL, 'K. S. Noll et al.', 2009, NULL, NULL, NULL, NULL);
